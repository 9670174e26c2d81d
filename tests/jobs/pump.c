/* Moves bytes and measures it, or floods.
   pump serve PORT                    takes connections, one after the other: a first byte 's' is followed by bytes that it
                                      swallows, 'e' by bytes that it sends back one by one
   pump stream HOST PORT SECONDS      sends for so long, and prints megabytes a second
   pump rtt HOST PORT COUNT           prints the median and the 99th percentile of a round trip of one byte in microseconds
   pump connect HOST PORT COUNT       the same of a connection with one round trip
   pump ask HOST NAME COUNT           the same of a question for the addresses of a name, at most 150 a second
   pump flood KIND HOST PORT          floods until it is killed: `connect` opens connections and keeps them, `syn` opens some to
                                      HOST and the 200 addresses behind it, `deny` sends datagrams there, `ask` asks for names */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[128 << 10];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static struct sockaddr_in address(const char *host, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    inet_pton(AF_INET, host, &a.sin_addr);
    return a;
}

static void at_once(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int serve(const char *port)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = address("0.0.0.0", port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 16))
        return fail("listen");
    for (;;) {
        int c = accept(fd, NULL, NULL);
        char kind = 0;
        if (c < 0)
            return fail("accept");
        at_once(c);
        if (read(c, &kind, 1) == 1) {
            ssize_t n;
            while ((n = read(c, buffer, kind == 'e' ? 1 : sizeof buffer)) > 0)
                if (kind == 'e' && write(c, buffer, n) != n)
                    break;
        }
        close(c);
    }
}

static int reach(const char *host, const char *port, char kind)
{
    struct sockaddr_in a = address(host, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    /* The server may not listen yet. */
    for (int n = 0; connect(fd, (struct sockaddr *)&a, sizeof a); n++) {
        if (n == 500)
            exit(fail("connect"));
        usleep(10000);
        close(fd);
        fd = socket(AF_INET, SOCK_STREAM, 0);
    }
    at_once(fd);
    if (write(fd, &kind, 1) != 1)
        exit(fail("write"));
    return fd;
}

static int stream(int fd, double seconds)
{
    double begin = now(), sent = 0;
    while (now() - begin < seconds) {
        ssize_t n = write(fd, buffer, sizeof buffer);
        if (n < 0)
            return fail("write");
        sent += n;
    }
    /* Not before all of it has arrived. */
    shutdown(fd, SHUT_WR);
    if (read(fd, buffer, 1) != 0)
        return fail("read");
    printf("%.1f\n", sent / 1e6 / (now() - begin));
    return 0;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Prints the median and the 99th percentile. */
static int report(double *times, int count)
{
    qsort(times, count, sizeof *times, order);
    printf("%.1f %.1f\n", times[count / 2], times[count * 99 / 100]);
    return 0;
}

static int rtt(int fd, int count)
{
    double *times = malloc(count * sizeof *times);
    for (int n = 0; n < count; n++) {
        double begin = now();
        if (write(fd, buffer, 1) != 1 || read(fd, buffer, 1) != 1)
            return fail("round trip");
        times[n] = (now() - begin) * 1e6;
    }
    return report(times, count);
}

static int connections(const char *host, const char *port, int count)
{
    double *times = malloc(count * sizeof *times);
    close(reach(host, port, 'e'));
    for (int n = 0; n < count; n++) {
        double begin = now();
        int fd = reach(host, port, 'e');
        if (write(fd, buffer, 1) != 1 || read(fd, buffer, 1) != 1)
            return fail("round trip");
        close(fd);
        times[n] = (now() - begin) * 1e6;
    }
    return report(times, count);
}

/* The bytes of a question for the IPv4 addresses of a name. */
static int question(unsigned char *to, const char *name, int number)
{
    unsigned char *at = to + 12;
    memset(to, 0, 12);
    to[0] = number >> 8;
    to[1] = number;
    to[2] = to[5] = 1;
    while (*name) {
        size_t length = strcspn(name, ".");
        *at++ = length;
        memcpy(at, name, length);
        at += length;
        name += length + (name[length] == '.');
    }
    memcpy(at, "\0\0\1\0\1", 5);
    return at + 5 - to;
}

static int ask(const char *host, const char *name, int count)
{
    double *times = malloc(count * sizeof *times);
    unsigned char bytes[512], answer[1500];
    struct sockaddr_in a = address(host, "53");
    struct timeval patience = {.tv_sec = 2};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        return fail("connect");
    for (int n = -5; n < count; n++) {
        int length = question(bytes, name, n & 0xffff);
        double begin = now();
        ssize_t got;
        if (send(fd, bytes, length, 0) != length)
            return fail("send");
        do
            got = recv(fd, answer, sizeof answer, 0);
        while (got > 2 && memcmp(bytes, answer, 2));
        if (got < 0 && errno != EAGAIN)
            return fail("recv");
        if (got > 3 && (answer[3] & 15)) {
            fprintf(stderr, "%s: code %d\n", name, answer[3] & 15);
            return 1;
        }
        /* The first ones find and open the address; one that is lost counts with the time that was waited. */
        if (n >= 0)
            times[n] = (now() - begin) * 1e6;
        usleep(6600);
    }
    return report(times, count);
}

static void flood(const char *kind, const char *host, const char *port)
{
    static int open[1 << 16];
    struct rlimit most;
    struct sockaddr_in a = address(host, port);
    unsigned first = ntohl(a.sin_addr.s_addr);
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0), number = 0;
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    fcntl(datagrams, F_SETFL, O_NONBLOCK);
    for (unsigned n = 0;; n++) {
        a.sin_addr.s_addr = htonl(strcmp(kind, "connect") ? first + n % 200 : first);
        if (!strcmp(kind, "deny")) {
            a.sin_port = htons(1 + n % 60000);
            sendto(datagrams, buffer, 8, 0, (struct sockaddr *)&a, sizeof a);
        } else if (!strcmp(kind, "ask")) {
            char name[64];
            a.sin_addr.s_addr = htonl(first);
            snprintf(name, sizeof name, "n%u.example.org", n);
            sendto(datagrams, buffer, question((unsigned char *)buffer, name, n & 0xffff), 0, (struct sockaddr *)&a, sizeof a);
        } else {
            int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            if (fd < 0 || number == sizeof open / sizeof *open) {
                while (number > 0)
                    close(open[--number]);
                continue;
            }
            if (connect(fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS)
                close(fd);
            else
                open[number++] = fd;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "serve"))
        return serve(argv[2]);
    if (argc == 5 && !strcmp(argv[1], "stream"))
        return stream(reach(argv[2], argv[3], 's'), atof(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "rtt"))
        return rtt(reach(argv[2], argv[3], 'e'), atoi(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "connect"))
        return connections(argv[2], argv[3], atoi(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "ask"))
        return ask(argv[2], argv[3], atoi(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "flood"))
        flood(argv[2], argv[3], argv[4]);
    fprintf(stderr, "pump serve PORT | stream HOST PORT SECONDS | rtt HOST PORT COUNT | connect HOST PORT COUNT | "
                    "ask HOST NAME COUNT | flood KIND HOST PORT\n");
    return 2;
}
