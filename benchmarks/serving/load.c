/* The client of the serving benchmarks: one thread, epoll, one request's bytes sent again and again over keep-alive connections.
 *
 *     load ADDRESS PORT REQUEST-FILE CONNECTIONS SECONDS RATE DRAIN
 *
 * RATE 0 is a closed loop: every connection asks again as soon as it is answered. Any other RATE is an open loop: request k is due at
 * k / RATE seconds whatever became of the ones before it, and its latency counts from then, so that a server that stalls is not let off
 * the requests that it delayed (coordinated omission). At most CONNECTIONS are in flight, and opened as they are needed; what is due
 * meanwhile waits here, with its clock running. After SECONDS nothing is sent any more; DRAIN seconds later what is open counts as lost.
 *
 * Standard output gets one record a request, standard error the processor seconds that this process used.
 * C, because client and server share the cores: a client in Python would take more of them than the quicker servers do.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 8192, EVENTS = 256, LOST = 0, UNSENT = -1 };

struct record {
    double due, sent, done; /* seconds since the start; done 0: never */
    int32_t status;         /* of HTTP; LOST: no whole answer; UNSENT: no connection was free before the end */
    int32_t bytes;
};

struct connection {
    int fd, busy;
    size_t written;        /* of the request */
    size_t head;           /* bytes in `buffer` while the header is incomplete */
    long body;             /* bytes of the body still to come; -1: header incomplete; -2: chunked */
    int closes;            /* the server will close after this answer */
    char tail[5];          /* of a chunked answer: its last bytes */
    struct record record;
    char buffer[HEAD];
};

static struct connection *connections;
static int *idle, n_idle, limit, epoll, timer;
static char *request;
static size_t request_size;
static struct sockaddr_in address;
static double rate, stop_at, began;
static long next_due, in_flight;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - began;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void emit(const struct record *record) {
    if (fwrite(record, sizeof *record, 1, stdout) != 1) fail("write");
}

static void disconnect(struct connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void finish(struct connection *c, int status) {
    c->record.status = status;
    c->record.done = status == LOST ? 0 : now();
    emit(&c->record);
    c->busy = 0;
    in_flight--;
    if (status == LOST || c->closes) disconnect(c);
    idle[n_idle++] = (int)(c - connections);
}

static int open_connection(struct connection *c) {
    int one = 1, size = 1 << 18;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) return -1;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
}

static void get(struct connection *c);

static void put(struct connection *c) {
    while (c->busy && c->written < request_size) {
        ssize_t n = send(c->fd, request + c->written, request_size - c->written, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
        if (n < 0) { /* a server may answer and close before it has read everything: what it said counts */
            c->written = request_size;
            get(c);
            return;
        }
        c->written += (size_t)n;
    }
}

static void ask(struct connection *c, double due) {
    c->busy = 1;
    c->written = c->head = 0;
    c->body = -1;
    c->closes = 0;
    memset(c->tail, 0, sizeof c->tail);
    c->record = (struct record){.due = due, .sent = now()};
    in_flight++;
    if (c->fd < 0 && open_connection(c) < 0) finish(c, LOST);
    else put(c);
}

static void ask_what_is_due(void) {
    double t = now();
    for (int left = n_idle; left && t < stop_at; left--) { /* each free one once: a server that refuses must not keep this loop */
        double due = rate > 0 ? (double)next_due / rate : t;
        if (due > t) return;
        next_due++;
        ask(&connections[idle[--n_idle]], due); /* the connection used last: few stay open where few are needed */
    }
}

static void read_header(struct connection *c, const char *end) {
    c->record.status = atoi(c->buffer + 9);
    c->body = 0;
    for (const char *line = strstr(c->buffer, "\r\n"); line && line < end; line = strstr(line + 2, "\r\n")) {
        if (!strncasecmp(line + 2, "content-length:", 15)) c->body = atol(line + 17);
        if (!strncasecmp(line + 2, "transfer-encoding: chunked", 26)) c->body = -2;
        if (!strncasecmp(line + 2, "connection: close", 17)) c->closes = 1;
    }
}

static void keep_tail(struct connection *c, const char *data, size_t n) {
    size_t kept = n < 5 ? 5 - n : 0;
    memmove(c->tail, c->tail + 5 - kept, kept);
    memcpy(c->tail + kept, data + n - (5 - kept), 5 - kept);
}

/* Returns whether the answer is whole. */
static int take(struct connection *c, const char *data, size_t n) {
    c->record.bytes += (int32_t)n;
    if (c->body == -1) {
        if (c->head + n >= HEAD) return 0;
        memcpy(c->buffer + c->head, data, n);
        c->head += n;
        c->buffer[c->head] = 0;
        const char *end = strstr(c->buffer, "\r\n\r\n");
        if (!end) return 0;
        read_header(c, end);
        data = end + 4;
        n = c->head - (size_t)(data - c->buffer);
    }
    if (c->body == -2) {
        if (n) keep_tail(c, data, n);
        return !memcmp(c->tail, "0\r\n\r\n", 5);
    }
    c->body -= (long)n;
    return c->body <= 0;
}

static void get(struct connection *c) {
    static char data[1 << 16];
    for (;;) {
        ssize_t n = c->fd < 0 ? 0 : recv(c->fd, data, c->body == -1 && c->busy ? HEAD - 1 - c->head : sizeof data, 0);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) return;
        if (n <= 0) {
            disconnect(c);
            if (c->busy) finish(c, LOST);
            return;
        }
        if (c->busy && take(c, data, (size_t)n)) {
            finish(c, c->record.status);
            return;
        }
    }
}

static void arm(double until) {
    double at = began + (until > 0 ? until : 0);
    struct itimerspec value = {.it_value = {.tv_sec = (time_t)at, .tv_nsec = (long)((at - (double)(time_t)at) * 1e9) + 1}};
    if (value.it_value.tv_nsec > 999999999) value.it_value.tv_nsec = 999999999;
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &value, NULL);
}

static void prepare(char **arguments) {
    FILE *file = fopen(arguments[3], "rb");
    struct stat about;
    if (!file || fstat(fileno(file), &about)) fail(arguments[3]);
    request_size = (size_t)about.st_size;
    request = malloc(request_size);
    if (!request || fread(request, 1, request_size, file) != request_size) fail(arguments[3]);
    fclose(file);
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)atoi(arguments[2]));
    if (inet_pton(AF_INET, arguments[1], &address.sin_addr) != 1) fail(arguments[1]);
    limit = atoi(arguments[4]);
    connections = calloc((size_t)limit, sizeof *connections);
    idle = calloc((size_t)limit, sizeof *idle);
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (!connections || !idle || epoll < 0 || timer < 0) fail("prepare");
    for (int i = limit - 1; i >= 0; i--) {
        connections[i].fd = -1;
        idle[n_idle++] = i;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event)) fail("epoll");
}

static void turn(double give_up) {
    struct epoll_event events[EVENTS];
    double t = now(), due = rate > 0 && n_idle && t < stop_at ? (double)next_due / rate : give_up;
    arm(due < give_up ? due : give_up);
    int n = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c) {
            uint64_t times;
            if (read(timer, &times, sizeof times) < 0 && errno != EAGAIN) fail("timer");
            continue;
        }
        if (events[i].events & EPOLLOUT) put(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) get(c);
    }
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "load ADDRESS PORT REQUEST-FILE CONNECTIONS SECONDS RATE DRAIN\n");
        return 2;
    }
    prepare(arguments);
    stop_at = atof(arguments[5]);
    rate = atof(arguments[6]);
    double give_up = stop_at + atof(arguments[7]);
    began = now();
    for (ask_what_is_due(); now() < stop_at || (in_flight && now() < give_up); ask_what_is_due()) turn(now() < stop_at ? stop_at : give_up);
    for (int i = 0; i < limit; i++)
        if (connections[i].busy) emit(&(struct record){connections[i].record.due, connections[i].record.sent, 0, LOST, 0});
    for (; rate > 0 && (double)next_due / rate < stop_at; next_due++) emit(&(struct record){(double)next_due / rate, 0, 0, UNSENT, 0});
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "%.6f\n", (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + 1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec));
    return fflush(stdout) ? 1 : 0;
}
