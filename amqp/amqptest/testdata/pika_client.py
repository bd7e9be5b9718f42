"""Talks to a broker with pika, an independent client: declare, publish, consume, acknowledge, and some refusals."""

import sys

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.exchange_declare("events", "topic")
channel.queue_declare("work", arguments={"x-max-priority": 5, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
channel.queue_declare("dead")
channel.queue_bind("work", "events", "order.#")

channel.confirm_delivery()
for n in range(20):
    properties = pika.BasicProperties(content_type="text/plain", delivery_mode=2, priority=n % 3, headers={"n": n, "nested": {"list": [1, "two", None]}})
    channel.basic_publish("events", "order.%d" % n, b"message %d" % n, properties, mandatory=True)
try:
    channel.basic_publish("events", "invoice.1", b"nobody wants it", mandatory=True)
    sys.exit("an unroutable mandatory message was not returned")
except UnroutableError as error:
    assert error.messages[0].body == b"nobody wants it", error.messages

channel.basic_qos(prefetch_count=3)
got = []
for method, properties, body in channel.consume("work", inactivity_timeout=60):
    assert method is not None, "no more messages after %r" % got
    n = properties.headers["n"]
    assert properties.headers["nested"] == {"list": [1, "two", None]}, properties.headers
    assert body == b"message %d" % n
    if n == 7:
        channel.basic_reject(method.delivery_tag, requeue=False)
    elif n == 8 and not method.redelivered:
        channel.basic_nack(method.delivery_tag, requeue=True)
        continue
    else:
        channel.basic_ack(method.delivery_tag)
    got.append(n)
    if len(got) == 20:
        break
channel.cancel()
assert sorted(got) == list(range(20)), got
assert channel.queue_declare("work", passive=True).method.message_count == 0

method, properties, body = channel.basic_get("dead", auto_ack=True)
assert body == b"message 7" and properties.headers["x-death"][0]["reason"] == "rejected", (body, properties)

try:
    channel.queue_declare("nowhere", passive=True)
    sys.exit("a queue that does not exist was found")
except ChannelClosedByBroker as error:
    assert error.args == (404, "NOT_FOUND - no queue 'nowhere' in vhost '/'"), error.args
connection.close()
print("pika is content")
