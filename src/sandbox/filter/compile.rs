//! From a policy to classic BPF.
//!
//! Every piece of code ends in a return, so a piece needs no exit: a two-way branch is its jump, then the
//! piece for "no", then the piece for "yes". Conditional jumps reach 255 instructions; beyond that the
//! branch goes through an unconditional one, which reaches everything.

use super::{Action, Policy, Rule, Test};
use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
};
use libc::{SECCOMP_RET_ALLOW, SECCOMP_RET_DATA, SECCOMP_RET_ERRNO, SECCOMP_RET_KILL_PROCESS, sock_filter};

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;

type Code = Vec<sock_filter>;

/// The program that answers as [`super::verdict`] does.
pub(super) fn compile(policy: &Policy) -> Code {
    let native = [vec![load(NR)], search(&ranges(policy))].concat();
    [vec![load(ARCH)], branch(BPF_JEQ, policy.arch, native, vec![give(policy.foreign)])].concat()
}

/// The policy as the first number of each stretch under one rule, from 0 to the last number there is.
fn ranges(policy: &Policy) -> Vec<(u32, Rule)> {
    let unknown = Rule::Do(policy.unknown);
    let mut ranges = Vec::new();
    let mut next = 0;
    for row in policy.rows {
        if row.first > next {
            ranges.push((next, unknown));
        }
        ranges.push((row.first, row.rule));
        next = row.end();
    }
    ranges.push((next, unknown));
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}

/// Finds the range of the number in the accumulator by halving.
fn search(ranges: &[(u32, Rule)]) -> Code {
    match ranges {
        [(_, rule)] => decide(rule, None),
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            branch(BPF_JGE, upper[0].0, search(upper), search(lower))
        }
    }
}

/// The content of the accumulator during a decision about arguments: the lower half of one, under a mask.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    arg: usize,
    mask: u32,
}

/// A decision tree over arguments. A value that the accumulator already holds is not loaded again.
fn decide(rule: &Rule, held: Option<Held>) -> Code {
    let (arg, test, then, otherwise) = match *rule {
        Rule::Do(action) => return vec![give(action)],
        Rule::If { arg, test, then, otherwise } => (arg, test, then, otherwise),
    };
    let (jump, mask, operand) = match test {
        Test::Is(value) => (BPF_JEQ, u32::MAX, value),
        Test::HasAny(bits) => (BPF_JSET, u32::MAX, bits),
        Test::Field { mask, value } => (BPF_JEQ, mask, value),
        Test::IsNull => return null(arg, then, otherwise),
    };
    let needed = Held { arg, mask };
    let mut code = Code::new();
    if held != Some(needed) {
        // Little endian: the lower half of the 64 bit argument comes first.
        code.push(load(ARGS + 8 * arg as u32));
        if mask != u32::MAX {
            code.push(plain(BPF_ALU | BPF_AND | BPF_K, mask));
        }
    }
    code.extend(branch(jump, operand, decide(then, Some(needed)), decide(otherwise, Some(needed))));
    code
}

/// Looks at both halves of an address.
fn null(arg: usize, then: &Rule, otherwise: &Rule) -> Code {
    let low = ARGS + 8 * arg as u32;
    let no = || decide(otherwise, None);
    let upper = [vec![load(low + 4)], branch(BPF_JEQ, 0, decide(then, None), no())].concat();
    [vec![load(low)], branch(BPF_JEQ, 0, upper, no())].concat()
}

/// Compares the accumulator with `operand` and runs one of the pieces.
fn branch(jump: u32, operand: u32, yes: Code, no: Code) -> Code {
    let code = (BPF_JMP | jump | BPF_K) as u16;
    let head = match u8::try_from(no.len()) {
        Ok(jt) => vec![sock_filter { code, jt, jf: 0, k: operand }],
        Err(_) => {
            let far = u32::try_from(no.len()).expect("a program has at most BPF_MAXINSNS instructions");
            vec![sock_filter { code, jt: 0, jf: 1, k: operand }, plain(BPF_JMP | BPF_JA, far)]
        }
    };
    [head, no, yes].concat()
}

/// Ends the program.
fn give(action: Action) -> sock_filter {
    let answer = match action {
        Action::Allow => SECCOMP_RET_ALLOW,
        Action::Errno(errno) => SECCOMP_RET_ERRNO | (errno as u32 & SECCOMP_RET_DATA),
        // With the errno 0 the kernel returns 0 (seccomp(2)).
        Action::Pretend => SECCOMP_RET_ERRNO,
        Action::KillProcess => SECCOMP_RET_KILL_PROCESS,
    };
    plain(BPF_RET | BPF_K, answer)
}

fn load(offset: u32) -> sock_filter {
    plain(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn plain(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests;
