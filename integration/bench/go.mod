module github.com/leveret-mq/leveret/integration/bench

go 1.26.0

require github.com/rabbitmq/amqp091-go v1.16.0

require (
	github.com/leveret-mq/leveret v0.0.0
	golang.org/x/sync v0.24.0
)

replace github.com/leveret-mq/leveret => ../..
