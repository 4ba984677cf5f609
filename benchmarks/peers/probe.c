/* The client of the comparison.
 *
 *   probe load REQUEST PORT CONNECTIONS SECONDS            closed loop; prints requests, errors, nanoseconds
 *   probe latency REQUEST ROUNDS PACE_US PORT...           one request at a time, the ports taking turns in random order;
 *                                                          prints every duration in ns, one line for each port
 *   probe stream REQUEST ROUNDS PORT...                    streams read piece by piece, the ports taking turns; prints for
 *                                                          each port: first piece ns / delay of each piece ns / joined reads
 *
 * REQUEST is a file with the whole request. An answer that is not 200 counts as an error and ends latency and stream. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 1 << 18 };

static char *request;
static size_t request_size;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void load_request(const char *name) {
    FILE *f = fopen(name, "rb");
    if (!f) fail(name);
    fseek(f, 0, SEEK_END);
    request_size = ftell(f);
    rewind(f);
    request = malloc(request_size);
    if (fread(request, 1, request_size, f) != request_size) fail(name);
    fclose(f);
}

static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (void *)&address, sizeof address)) fail("connect");
    return fd;
}

static void send_request(int fd) {
    size_t done = 0;
    while (done < request_size) {
        ssize_t n = send(fd, request + done, request_size - done, MSG_NOSIGNAL);
        if (n < 0) fail("send");
        done += n;
    }
}

/* How much of an answer is still to come, knowing b[0:n] of it: 0 none, -1 unknown yet, -2 not a 200. *chunked: looked
 * for the last chunk instead. */
static long missing(char *b, size_t n) {
    char *end, *field;
    b[n] = 0;
    if (!(end = memmem(b, n, "\r\n\r\n", 4))) return -1;
    if (n < 13 || memcmp(b + 9, "200", 3)) return -2;
    field = strcasestr(b, "\r\ncontent-length:");
    if (field && field < end) return (end + 4 - b) + atol(field + 17) - (long)n;
    return n >= 5 && !memcmp(b + n - 5, "0\r\n\r\n", 5) ? 0 : -1;
}

static void receive_answer(int fd, int port) {
    static char b[BUFFER];
    size_t n = 0;
    long left = -1;
    while (left) {
        ssize_t got = left > 0 ? recv(fd, b, BUFFER - 1, 0) : recv(fd, b + n, BUFFER - 1 - n, 0);
        if (got <= 0) fail("the answer was cut");
        if (left > 0) {
            left -= got;
            continue;
        }
        n += got;
        left = missing(b, n);
        if (left == -2) fprintf(stderr, "port %d: %.300s\n", port, b), exit(1);
    }
}

/* --- load --- */

struct conn {
    int fd;
    size_t sent, have;
    long left;
    char head[16384];
};

static long long until;

/* -1: broken; 1: has its answer and the time is over */
static int step(int poller, struct conn *c, long *done) {
    static char sink[BUFFER];
    if (c->sent < request_size) {
        ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN) return -1;
        if (n > 0) c->sent += n;
        struct epoll_event e = {.events = c->sent < request_size ? EPOLLOUT : EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
        return 0;
    }
    ssize_t got = c->left > 0 ? recv(c->fd, sink, sizeof sink, MSG_DONTWAIT)
                              : recv(c->fd, c->head + c->have, sizeof c->head - 1 - c->have, MSG_DONTWAIT);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    if (c->left > 0) {
        c->left -= got;
    } else {
        c->have += got;
        c->left = missing(c->head, c->have);
        if (c->left == -2) return -1;
    }
    if (c->left) return 0;
    c->have = c->sent = 0;
    c->left = -1;
    ++*done;
    if (now() >= until) return 1;
    /* sent at once where the socket has room, so that EPOLLOUT is the exception */
    c->sent = send(c->fd, request, request_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if ((ssize_t)c->sent < 0) return -1;
    if (c->sent < request_size) {
        struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    }
    return 0;
}

static int load(int port, int connections, double seconds) {
    int poller = epoll_create1(0), alive = connections;
    long done = 0, errors = 0;
    struct epoll_event events[256];
    for (int i = 0; i < connections; i++) {
        struct conn *c = calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLOUT, .data.ptr = c};
        c->fd = dial(port);
        c->left = -1;
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
    }
    long long start = now();
    until = start + (long long)(seconds * 1e9);
    while (alive && now() < until + 10000000000ll) {
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            int ended = step(poller, c, &done);
            if (ended) alive--, close(c->fd);
            if (ended < 0) errors++;
        }
    }
    printf("%ld %ld %lld\n", done, errors + alive, now() - start);
    return 0;
}

/* --- latency and streams --- */

static void shuffle(int *order, int n) {
    for (int i = n - 1; i > 0; i--) {
        int j = rand() % (i + 1), was = order[i];
        order[i] = order[j];
        order[j] = was;
    }
}

static int latency(int rounds, long pace, int ports, char **port) {
    int fd[64], order[64];
    long long *took[64];
    for (int i = 0; i < ports; i++) {
        order[i] = i;
        fd[i] = dial(atoi(port[i]));
        took[i] = malloc(rounds * sizeof **took);
        for (int warm = 0; warm < 50; warm++) send_request(fd[i]), receive_answer(fd[i], atoi(port[i]));
    }
    for (int r = 0; r < rounds; r++) {
        shuffle(order, ports);
        for (int k = 0; k < ports; k++) {
            struct timespec pause = {0, pace * 1000};
            if (pace) nanosleep(&pause, NULL);
            long long start = now();
            send_request(fd[order[k]]);
            receive_answer(fd[order[k]], atoi(port[order[k]]));
            took[order[k]][r] = now() - start;
        }
    }
    for (int i = 0; i < ports; i++)
        for (int r = 0; r < rounds; r++) printf("%lld%c", took[i][r], r + 1 < rounds ? ' ' : '\n');
    return 0;
}

static void read_stream(int port, FILE *first, FILE *delays, long *joined) {
    static char b[BUFFER];
    int fd = dial(port);
    size_t have = 0, seen = 0;
    long long start = now();
    send_request(fd);
    for (;;) {
        ssize_t got = recv(fd, b + have, BUFFER - 1 - have, 0);
        long long t = now();
        int here = 0;
        if (got <= 0) fail("the stream was cut");
        have += got;
        b[have] = 0;
        if (memcmp(b + 9, "200", 3)) fprintf(stderr, "port %d: %.300s\n", port, b), exit(1);
        for (char *p; (p = strstr(b + seen, "\"clock\":")) && p + 28 <= b + have; seen = p + 28 - b) {
            if (!seen) fprintf(first, "%lld ", t - start);
            fprintf(delays, "%lld ", t - atoll(p + 8));
            here++;
        }
        *joined += here > 1;
        if (have > 5 && !memcmp(b + have - 5, "0\r\n\r\n", 5)) break;
    }
    close(fd);
}

static int stream(int rounds, int ports, char **port) {
    char *first[64], *delays[64];
    size_t unused;
    FILE *f[64], *d[64];
    long joined[64] = {0};
    int order[64];
    for (int i = 0; i < ports; i++) {
        order[i] = i;
        f[i] = open_memstream(&first[i], &unused);
        d[i] = open_memstream(&delays[i], &unused);
    }
    for (int r = 0; r < rounds; r++) {
        shuffle(order, ports);
        for (int k = 0; k < ports; k++) read_stream(atoi(port[order[k]]), f[order[k]], d[order[k]], &joined[order[k]]);
    }
    for (int i = 0; i < ports; i++) {
        fclose(f[i]);
        fclose(d[i]);
        printf("%s/%s/%ld\n", first[i], delays[i], joined[i]);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 2) load_request(argv[2]);
    srand(1);
    if (argc == 6 && !strcmp(argv[1], "load")) return load(atoi(argv[3]), atoi(argv[4]), atof(argv[5]));
    if (argc > 5 && !strcmp(argv[1], "latency")) return latency(atoi(argv[3]), atol(argv[4]), argc - 5, argv + 5);
    if (argc > 4 && !strcmp(argv[1], "stream")) return stream(atoi(argv[3]), argc - 4, argv + 4);
    fprintf(stderr, "usage: probe load|latency|stream REQUEST ... (see the top of probe.c)\n");
    return 2;
}
