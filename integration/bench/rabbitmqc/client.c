/* The modes of the bench with rabbitmq-c (librabbitmq), in the manner of its own
 * examples: one thread, one connection, one channel. It prints a Result. */

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static amqp_connection_state_t conn;
static amqp_bytes_t queue, body;
static amqp_basic_properties_t props;
static amqp_table_entry_t headers[3];
static char ids[1024][32];
static int window, no_ack, prefetch;
static int64_t limit, messages;
static double seconds, began, cpu_before;
static double *latencies;
static size_t n_latencies, cap_latencies;

static void fail(const char *what) {
  fprintf(stderr, "rabbitmq-c: %s\n", what);
  exit(1);
}

static void check(const char *what) {
  amqp_rpc_reply_t r = amqp_get_rpc_reply(conn);
  if (r.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void start(void) {
  cpu_before = cpu();
  began = now();
}

/* over counts a message and tells whether it was enough. */
static int over(void) {
  messages++;
  if (limit > 0) return messages >= limit;
  return messages % 64 == 0 && now() - began >= seconds;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double quantile(double q) {
  size_t i = (size_t)(q * (double)n_latencies);
  if (n_latencies == 0) return 0;
  return latencies[i < n_latencies ? i : n_latencies - 1];
}

static void took(double d) {
  if (n_latencies == cap_latencies) {
    cap_latencies = cap_latencies ? 2 * cap_latencies : 1024;
    latencies = realloc(latencies, cap_latencies * sizeof *latencies);
    if (!latencies) fail("out of memory");
  }
  latencies[n_latencies++] = d;
}

static void finish(void) {
  double took_all = now() - began, used = cpu() - cpu_before;
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  qsort(latencies, n_latencies, sizeof *latencies, by_value);
  printf("{\"Messages\":%lld,\"Seconds\":%.9f,\"CPU\":%.6f,\"PeakRSS\":%lld,"
         "\"P50\":%.9f,\"P99\":%.9f,\"P999\":%.9f}\n",
         (long long)messages, took_all, used, (long long)u.ru_maxrss * 1024,
         quantile(0.5), quantile(0.99), quantile(0.999));
}

static void with_properties(void) {
  for (int i = 0; i < 1024; i++)
    snprintf(ids[i], sizeof ids[i], "message-%08x-%04d", (unsigned)i * 2654435761u, i);
  headers[0].key = amqp_cstring_bytes("tenant");
  headers[0].value.kind = AMQP_FIELD_KIND_UTF8;
  headers[0].value.value.bytes = amqp_cstring_bytes("acme-corporation");
  headers[1].key = amqp_cstring_bytes("attempt");
  headers[1].value.kind = AMQP_FIELD_KIND_I32;
  headers[1].value.value.i32 = 1;
  headers[2].key = amqp_cstring_bytes("traceparent");
  headers[2].value.kind = AMQP_FIELD_KIND_UTF8;
  headers[2].value.value.bytes =
      amqp_cstring_bytes("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  props._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                 AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
  props.content_type = amqp_cstring_bytes("application/json");
  props.delivery_mode = 1;
  props.headers.num_entries = 3;
  props.headers.entries = headers;
}

static void publish(void) {
  if (props._flags) props.message_id = amqp_cstring_bytes(ids[messages % 1024]);
  if (amqp_basic_publish(conn, 1, amqp_empty_bytes, queue, 0, 0, &props, body) != AMQP_STATUS_OK)
    fail("publish");
}

static void run_publish(void) {
  start();
  do publish();
  while (!over());
  amqp_queue_declare(conn, 1, queue, 1, 0, 0, 0, amqp_empty_table);
  check("round trip");
  finish();
}

/* confirmed waits for one ack and returns its tag. */
static uint64_t confirmed(void) {
  for (;;) {
    amqp_frame_t f;
    amqp_maybe_release_buffers(conn);
    if (amqp_simple_wait_frame(conn, &f) != AMQP_STATUS_OK) fail("wait for a confirm");
    if (f.frame_type != AMQP_FRAME_METHOD) continue;
    if (f.payload.method.id == AMQP_BASIC_ACK_METHOD)
      return ((amqp_basic_ack_t *)f.payload.method.decoded)->delivery_tag;
    fail("something else than a confirm");
  }
}

static void run_confirm(void) {
  uint64_t sent = 0, done = 0;
  int more = 1;
  amqp_confirm_select(conn, 1);
  check("confirm.select");
  start();
  while (more) {
    while (sent - done >= (uint64_t)window ||
           (sent > done && (amqp_frames_enqueued(conn) || amqp_data_in_buffer(conn))))
      done = confirmed();
    publish();
    sent++;
    more = !over();
  }
  while (done < sent) done = confirmed();
  finish();
}

static void run_waiters(void) {
  int more = 1;
  amqp_confirm_select(conn, 1);
  check("confirm.select");
  start();
  while (more) {
    double at = now();
    publish();
    confirmed();
    took(now() - at);
    more = !over();
  }
  finish();
}

static void run_consume(void) {
  int more = 1;
  start();
  if (!no_ack && prefetch > 0) {
    amqp_basic_qos(conn, 1, 0, (uint16_t)prefetch, 0);
    check("basic.qos");
  }
  amqp_basic_consume(conn, 1, queue, amqp_cstring_bytes("c"), 0, no_ack, 0, amqp_empty_table);
  check("basic.consume");
  while (more) {
    amqp_envelope_t e;
    amqp_maybe_release_buffers(conn);
    if (amqp_consume_message(conn, &e, NULL, 0).reply_type != AMQP_RESPONSE_NORMAL) fail("consume");
    if (!no_ack && amqp_basic_ack(conn, 1, e.delivery_tag, 0) != AMQP_STATUS_OK) fail("ack");
    amqp_destroy_envelope(&e);
    more = !over();
  }
  finish();
}

int main(int argc, char **argv) {
  if (argc != 13) fail("wants kind host port vhost queue body properties window noack prefetch messages seconds");
  const char *kind = argv[1];
  queue = amqp_cstring_bytes(argv[5]);
  body.len = strtoul(argv[6], NULL, 10);
  body.bytes = calloc(1, body.len);
  if (atoi(argv[7])) with_properties();
  window = atoi(argv[8]);
  no_ack = atoi(argv[9]);
  prefetch = atoi(argv[10]);
  limit = atoll(argv[11]);
  seconds = atof(argv[12]);

  conn = amqp_new_connection();
  amqp_socket_t *s = amqp_tcp_socket_new(conn);
  if (!s || amqp_socket_open(s, argv[2], atoi(argv[3])) != AMQP_STATUS_OK) fail("connect");
  if (amqp_login(conn, argv[4], 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type !=
      AMQP_RESPONSE_NORMAL)
    fail("login");
  amqp_channel_open(conn, 1);
  check("channel.open");

  if (!strcmp(kind, "publish")) run_publish();
  else if (!strcmp(kind, "confirm")) run_confirm();
  else if (!strcmp(kind, "waiters")) run_waiters();
  else if (!strcmp(kind, "consume")) run_consume();
  else fail("unknown kind");
  return 0;
}
