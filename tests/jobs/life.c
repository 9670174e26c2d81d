/* Ways in which a program runs and ends. Arguments: the way, and a number where it needs one. */
#define _GNU_SOURCE
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *word)
{
    printf("%s\n", word);
    fflush(stdout);
}

/* Ends by this signal, or returns if the default action of the signal does not end a process. */
static void die(int number)
{
    syscall(SYS_kill, getpid(), number);
}

static void told(int number)
{
    printf("got %d\n", number);
    fflush(stdout);
}

/* Prints every signal that is forwarded to it and ends with the last one. */
static void listen_for(int last)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
    sigset_t all;
    sigemptyset(&all);
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&all, numbers[i]);
    sigprocmask(SIG_BLOCK, &all, NULL);
    say("ready");
    for (int got = 0; got != last;) {
        sigwait(&all, &got);
        told(got);
    }
}

static int processes(void)
{
    int count = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(proc));)
        count += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
    closedir(proc);
    return count;
}

/* Children of children that end after their parent: only PID 1 can reap them. */
static void orphans(int count)
{
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < count; i++)
        if (fork() == 0) {
            if (fork() == 0)
                usleep(1000);
            _exit(0);
        }
    while (processes() > 2)
        usleep(1000);
    printf("%d processes left\n", processes());
}

/* A process in another session that keeps the output open and ignores all signals that can be ignored. */
static void leave_behind(int count)
{
    for (int i = 0; i < count; i++)
        if (fork() == 0) {
            setsid();
            for (int n = 1; n < 65; n++)
                signal(n, SIG_IGN);
            for (;;)
                pause();
        }
    say("left");
}

/* Numbered lines of 32 bytes, alternately to both streams. */
static void flood(int lines)
{
    for (int i = 0; i < lines; i++)
        for (int stream = 1; stream <= 2; stream++) {
            char line[40];
            int length = snprintf(line, sizeof line, "stream %d line %015d\n", stream, i);
            if (write(stream, line, (size_t)length) != length)
                _exit(99);
        }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int number = argc > 2 ? atoi(argv[2]) : 0;
    if (strcmp(what, "exit") == 0)
        return number;
    else if (strcmp(what, "die") == 0)
        die(number);
    else if (strcmp(what, "listen") == 0)
        listen_for(number);
    else if (strcmp(what, "deaf") == 0) {
        signal(SIGTERM, SIG_IGN);
        say("ready");
        for (;;)
            pause();
    } else if (strcmp(what, "orphans") == 0)
        orphans(number);
    else if (strcmp(what, "leave") == 0) {
        leave_behind(number);
        return 3;
    } else if (strcmp(what, "flood") == 0) {
        flood(number);
        return 7;
    } else
        return 2;
    return 0;
}
