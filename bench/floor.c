// The floor: what a fan-out costs in C when nothing is done but one send for each subscriber. No keys, no memory of events, no slow
// clients: a subscriber whose socket is full is closed. GET is a subscriber, POST publishes its body to all of them; what one read brings
// from the publisher goes out as one send a subscriber.  cc -O2 -o floor floor.c && ./floor PORT
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 1 << 18, AT_ONCE = 256, BLOCK_HEAD = 64 };

// One connection. input is kept only while a request is incomplete, so that a subscriber costs nothing but this.
typedef struct {
    char *input;
    size_t have;
    int place;  // in `subscribers`, or -1
} connection;

static connection *connections;
static int *subscribers, subscribed, poller;
static unsigned long long events;
static char received[BUFFER], batch[BUFFER * 2], answers[BUFFER];
static size_t batched, answered;

static const char OPENING[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-store\r\n"
    "Transfer-Encoding: chunked\r\n\r\nb\r\nretry: 2\n\n\n\r\n";
static const char ANSWER[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void end(int fd) {
    connection *it = &connections[fd];
    if (it->place >= 0) {
        int last = subscribers[--subscribed];
        subscribers[it->place] = last;
        connections[last].place = it->place;
    }
    free(it->input);
    *it = (connection){.place = -1};
    close(fd);
}

static void fan_out(void) {
    for (int i = subscribed - 1; batched && i >= 0; i--)  // from the end: `end` puts the last one into the gap
        if (send(subscribers[i], batch, batched, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)batched) end(subscribers[i]);
    batched = 0;
}

static void publish(const char *body, size_t length) {
    char block[BLOCK_HEAD];
    int head = snprintf(block, sizeof block, "id: %016llx\ndata: ", ++events);
    if (batched + length + 2 * BLOCK_HEAD > sizeof batch) fan_out();
    batched += sprintf(batch + batched, "%zx\r\n%s", head + length + 2, block);
    memcpy(batch + batched, body, length);
    batched += length;
    memcpy(batch + batched, "\n\n\r\n", 4);
    batched += 4;
}

static void subscribe(int fd) {
    send(fd, OPENING, sizeof OPENING - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    connections[fd].place = subscribed;
    subscribers[subscribed++] = fd;
}

// Takes one request off the front; returns its length, or 0 if it is not whole yet.
static size_t request(int fd, const char *data, size_t have) {
    const char *blank = memmem(data, have, "\r\n\r\n", 4);
    if (!blank) return 0;
    size_t head = blank + 4 - data;
    if (data[0] == 'G') {
        if (connections[fd].place < 0) subscribe(fd);
        return head;
    }
    const char *field = memmem(data, head, "Content-Length: ", 16);
    size_t length = field ? strtoul(field + 16, NULL, 10) : 0;
    if (have < head + length) return 0;
    publish(blank + 4, length);
    memcpy(answers + answered, ANSWER, sizeof ANSWER - 1);
    answered += sizeof ANSWER - 1;
    return head + length;
}

static void take(int fd) {
    connection *it = &connections[fd];
    memcpy(received, it->input ? it->input : "", it->have);
    ssize_t n = recv(fd, received + it->have, BUFFER / 4 - it->have, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) end(fd);
        return;
    }
    size_t have = it->have + n, done = 0, length;
    while (done < have && (length = request(fd, received + done, have - done))) done += length;
    free(it->input);
    it->have = have - done;
    it->input = it->have ? memcpy(malloc(it->have), received + done, it->have) : NULL;
    if (answered) send(fd, answers, answered, MSG_DONTWAIT | MSG_NOSIGNAL);
    answered = 0;
    fan_out();
}

static void accept_all(int listener) {
    int one = 1, fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[fd] = (connection){.place = -1};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    size_t most = files.rlim_max < 1 << 20 ? files.rlim_max : 1 << 20;
    connections = calloc(most, sizeof *connections);
    subscribers = calloc(most, sizeof *subscribers);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons(argc > 1 ? atoi(argv[1]) : 8082);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) fail("listen");
    poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    struct epoll_event ready[AT_ONCE];
    for (;;) {
        int n = epoll_wait(poller, ready, AT_ONCE, -1);
        if (n < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == listener) accept_all(listener);
            else take(ready[i].data.fd);
        }
    }
}
