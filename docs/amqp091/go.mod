module github.com/leveret-mq/leveret/docs/amqp091

go 1.26.0

require (
	github.com/leveret-mq/leveret v0.0.0
	github.com/rabbitmq/amqp091-go v1.16.0
	go.uber.org/goleak v1.3.0
)

replace github.com/leveret-mq/leveret => ../..
