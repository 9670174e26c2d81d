/* outside ADDRESS: plays the internet in a namespace of its own, on all of its addresses, until it is killed.
 *   UDP 53     answers every question for an IPv4 address with ADDRESS, other questions with nothing
 *   TCP 9000   sends 64 numbered lines every 50 ms until /run/outside.over exists, then the number of lines, and the end
 *   TCP 9001   takes bytes up to the end of the sender, and sends all of them back
 *   TCP 9002   takes a connection and ends it */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINES = 64, PAUSE_MS = 50, MOST = 4 << 20, QUESTION = 12, FIXED = 4, RECORD = 16 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int bound(int type, int port) {
    int one = 1, fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&any, sizeof any) < 0)
        fail("bind");
    if (type == SOCK_STREAM && listen(fd, 64) < 0)
        fail("listen");
    /* Answers come from the address that was asked. */
    if (type == SOCK_DGRAM && setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) < 0)
        fail("IP_PKTINFO");
    return fd;
}

static int put(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

static void send_lines(int fd) {
    char text[LINES * 24];
    for (unsigned long number = 0;;) {
        int size = 0;
        if (access("/run/outside.over", F_OK) == 0) {
            size = snprintf(text, sizeof text, "%lu\n", number);
            put(fd, text, (size_t)size);
            return;
        }
        for (int i = 0; i < LINES; i++)
            size += snprintf(text + size, sizeof text - (size_t)size, "line %lu\n", ++number);
        if (put(fd, text, (size_t)size) < 0)
            return;
        poll(NULL, 0, PAUSE_MS);
    }
}

static void send_back(int fd) {
    char *all = malloc(MOST);
    size_t size = 0;
    ssize_t n;
    while (all && size < MOST && (n = read(fd, all + size, MOST - size)) != 0) {
        if (n < 0)
            return;
        size += (size_t)n;
    }
    put(fd, all, size);
}

static void take(int listener, void (*act)(int)) {
    int fd = accept(listener, NULL, NULL);
    if (fd < 0 || fork() != 0) {
        close(fd);
        return;
    }
    if (act)
        act(fd);
    /* Not before the other side has all of it: a socket that is closed with unread bytes takes back what it sent. */
    shutdown(fd, SHUT_WR);
    char rest[4096];
    while (read(fd, rest, sizeof rest) > 0) {}
    _exit(0);
}

/* The length of the question behind the header, 0 where it is none. */
static size_t question(const unsigned char *packet, size_t size) {
    size_t at = QUESTION;
    while (at < size && packet[at] != 0)
        at += packet[at] + 1u;
    return at + 1 + FIXED <= size ? at + 1 + FIXED - QUESTION : 0;
}

static void answer(int fd, struct in_addr address) {
    unsigned char packet[1500], from[256], control[256];
    struct iovec part = { packet, sizeof packet - RECORD };
    struct msghdr message = { .msg_name = from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                              .msg_control = control, .msg_controllen = sizeof control };
    ssize_t got = recvmsg(fd, &message, 0);
    size_t asked = got > QUESTION ? question(packet, (size_t)got) : 0;
    if (asked == 0)
        return;
    size_t end = QUESTION + asked;
    int is_ipv4 = packet[end - 4] == 0 && packet[end - 3] == 1;
    /* An answer, with recursion; one question, no other records. */
    packet[2] = 0x81, packet[3] = 0x80;
    memset(packet + 4, 0, 8);
    packet[5] = 1, packet[7] = (unsigned char)is_ipv4;
    if (is_ipv4) {
        static const unsigned char head[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4 };
        memcpy(packet + end, head, sizeof head);
        memcpy(packet + end + sizeof head, &address, sizeof address);
        end += RECORD;
    }
    part.iov_len = end;
    sendmsg(fd, &message, 0);
}

int main(int argc, char **argv) {
    struct in_addr address;
    if (argc != 2 || inet_pton(AF_INET, argv[1], &address) != 1) {
        fprintf(stderr, "outside ADDRESS\n");
        return 2;
    }
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    struct pollfd all[] = {
        { bound(SOCK_DGRAM, 53), POLLIN, 0 },
        { bound(SOCK_STREAM, 9000), POLLIN, 0 },
        { bound(SOCK_STREAM, 9001), POLLIN, 0 },
        { bound(SOCK_STREAM, 9002), POLLIN, 0 },
    };
    void (*acts[])(int) = { NULL, send_lines, send_back, NULL };
    for (;;) {
        if (poll(all, 4, -1) < 0)
            continue;
        if (all[0].revents)
            answer(all[0].fd, address);
        for (int i = 1; i < 4; i++)
            if (all[i].revents)
                take(all[i].fd, acts[i]);
    }
}
