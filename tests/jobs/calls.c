/* Makes raw system calls and prints the errno of each, a line per argument of the program.
 * An argument is "NUMBER,ARG,...": each ARG a number (0x too), or s and a text, which is passed by address. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        long word[7] = {0};
        int count = 0;
        for (char *part = strtok(argv[i], ","); part && count < 7; part = strtok(NULL, ","))
            word[count++] = *part == 's' ? (long)(part + 1) : (long)strtoull(part, NULL, 0);
        errno = 0;
        long got = syscall(word[0], word[1], word[2], word[3], word[4], word[5], word[6]);
        int why = errno;
        /* A clone that was not refused has made a child, which must not continue. */
        if (got == 0 && (word[0] == SYS_clone || word[0] == SYS_clone3) && getppid() != 1)
            _exit(0);
        printf("%d\n", got < 0 ? why : 0);
        fflush(stdout);
    }
    return 0;
}
