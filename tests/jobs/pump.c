/* Moves bytes over TCP and measures it.
   pump serve PORT                    takes connections, one after the other: a first byte 's' is followed by bytes that it
                                      swallows, 'e' by bytes that it sends back one by one
   pump stream HOST PORT SECONDS      sends for so long, and prints megabytes a second
   pump rtt HOST PORT COUNT           prints the median round trip of one byte in microseconds */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static int rtt(int fd, int count)
{
    double *times = malloc(count * sizeof *times);
    for (int n = 0; n < count; n++) {
        double begin = now();
        if (write(fd, buffer, 1) != 1 || read(fd, buffer, 1) != 1)
            return fail("round trip");
        times[n] = (now() - begin) * 1e6;
    }
    qsort(times, count, sizeof *times, order);
    printf("%.1f\n", times[count / 2]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "serve"))
        return serve(argv[2]);
    if (argc == 5 && !strcmp(argv[1], "stream"))
        return stream(reach(argv[2], argv[3], 's'), atof(argv[4]));
    if (argc == 5 && !strcmp(argv[1], "rtt"))
        return rtt(reach(argv[2], argv[3], 'e'), atoi(argv[4]));
    fprintf(stderr, "pump serve PORT | stream HOST PORT SECONDS | rtt HOST PORT COUNT\n");
    return 2;
}
