"""A person at a terminal: runs a program on one, and types keys when certain words have appeared.

usage: terminal.py [WORDS TYPED]... -- PROGRAM ARGUMENT...

TYPED may hold escapes (\\x03 is Ctrl-C). Prints all output of the terminal; ends with the program's code, 128+n
when signal n killed it, 1 when words did not appear.
"""

import os
import pty
import select
import sys

LONGEST = 90  # seconds without a byte while words are expected


def main():
    split = sys.argv.index("--")
    steps, command = sys.argv[1:split], sys.argv[split + 1:]
    steps = list(zip(steps[::2], steps[1::2]))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown, seen = b"", 0
    while True:
        if steps and (at := shown.find(steps[0][0].encode(), seen)) >= 0:
            words, typed = steps.pop(0)
            # The search for the next words starts behind these.
            seen = at + len(words.encode())
            os.write(terminal, typed.encode().decode("unicode_escape").encode("latin-1"))
            continue
        if not select.select([terminal], [], [], LONGEST)[0]:
            print(f"{steps} did not happen", file=sys.stderr)
            os.kill(pid, 9)
            break
        try:
            block = os.read(terminal, 65536)
        except OSError:  # EIO: the last process on the terminal has closed it
            break
        if not block:
            break
        shown += block
    sys.stdout.buffer.write(shown)
    sys.stdout.flush()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.exit(1 if steps else code if code >= 0 else 128 - code)


main()
