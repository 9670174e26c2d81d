//! Commands that run beside the payload, by orders of the daemon.
//!
//! An order comes through a socket pair of which this process keeps both ends, so it outlives the daemon that sent it. A
//! command is our child like the payload, and inherits all walls. It writes its exit file by us; the file is marked
//! before the command may run, so that a later daemon knows whether an order was taken.

use crate::exec::{self, Outcome};
use crate::exec_request;
use crate::init_abi::exit_file::{BEGUN, Begun, Defect, ExitFile};
use crate::init_abi::order::{
    CLOSE_INPUT, DESCRIPTORS, DONE, EXIT_FILE, FED, FEED, FORGET, INPUT, INPUT_END, KEPT_ERR, KEPT_OUT, MOST,
    Order, PARKED, PAYLOAD, PLACES, SIGNAL, START, START_FED, number,
};
use crate::init_abi::{report, slot};
use crate::sys;

/// A command, or room for one.
#[derive(Clone, Copy)]
struct Place {
    is_taken: bool,
    /// 0: it has ended.
    pid: i32,
    outcome: Outcome,
    started_ns: i64,
    /// The tag of its input.
    tag: u64,
}

const EMPTY: Place = Place {
    is_taken: false,
    pid: 0,
    outcome: Outcome { begun: Begun::Executed, defect: Defect::None, errno: 0 },
    started_ns: 0,
    tag: 0,
};

/// The standard input of the payload, where it has one: the read end of its pipe, else no descriptor.
///
/// # Errors
/// errno: it has not come, or there is no room for it.
pub fn take_input(is_fed: bool) -> Result<i32, i32> {
    let mut came = [-1; MOST];
    if !is_fed {
        return Ok(-1);
    }
    match sys::receive(slot::ORDERS, &mut came) {
        Some((Order { verb: FEED, .. }, FED)) => {}
        _ => return Err(EMFILE),
    }
    let [stdin, file, pipe, ..] = came;
    // Out of the way of the fixed numbers, which the kernel may have chosen.
    let parked = [stdin, file, pipe].map(|fd| sys::duplicate_above(fd, PARKED));
    came.iter().take(FED).for_each(|fd| sys::close(*fd));
    let [stdin, file, pipe] = parked;
    let kept = sys::duplicate_to(file, number(PAYLOAD, INPUT))
        && sys::duplicate_to(pipe, number(PAYLOAD, INPUT_END));
    sys::close(file);
    sys::close(pipe);
    if kept && stdin >= 0 { Ok(stdin) } else { Err(EMFILE) }
}

/// Closes the copies of an input.
pub fn close_input(place: u32) {
    sys::close(number(place, INPUT));
    sys::close(number(place, INPUT_END));
}

/// All commands beside the payload.
pub struct Sessions([Place; PLACES]);

impl Sessions {
    /// No command yet.
    pub fn new() -> Self {
        Sessions([EMPTY; PLACES])
    }

    /// Carries out the orders that have come. None is waited for.
    pub fn take_orders(&mut self) {
        let mut descriptors = [-1; MOST];
        while let Some((order, count)) = sys::receive(slot::ORDERS, &mut descriptors) {
            let came = descriptors.get(..count).unwrap_or(&[]);
            match order.verb {
                START | START_FED => self.start(&order, came),
                verb => {
                    came.iter().for_each(|fd| sys::close(*fd));
                    self.change(verb, &order);
                }
            }
        }
    }

    fn change(&mut self, verb: u32, order: &Order) {
        if (verb, order.place) == (CLOSE_INPUT, PAYLOAD) {
            return close_input(PAYLOAD);
        }
        let Some(place) = self.0.get_mut(order.place as usize).filter(|place| place.is_taken) else { return };
        match (verb, place.pid) {
            (FORGET, 0) => {
                sys::close(number(order.place, KEPT_OUT));
                sys::close(number(order.place, KEPT_ERR));
                *place = EMPTY;
            }
            // One that has ended has closed its own; the place may have another's.
            (CLOSE_INPUT, pid) if pid > 0 && place.tag == order.argument => close_input(order.place),
            // It is not reaped yet, so its number is its own.
            (SIGNAL, pid) if pid > 0 => {
                let signal = order.argument as i32;
                if !sys::kill(-pid, signal) {
                    sys::kill(pid, signal);
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, order: &Order, came: &[i32]) {
        // Out of the way of the fixed numbers, which the kernel may have chosen for some of them.
        let wanted = if order.verb == START_FED { MOST } else { DESCRIPTORS };
        let mut parked = [-1; MOST];
        for (park, fd) in parked.iter_mut().zip(came) {
            *park = sys::duplicate_above(*fd, PARKED);
        }
        let place = self.0.get_mut(order.place as usize).filter(|place| !place.is_taken);
        let started = match place {
            Some(place) if parked.iter().take(wanted).all(|fd| *fd >= 0) => {
                came.iter().for_each(|fd| sys::close(*fd));
                start(place, order, &parked)
            }
            // A job that has lowered our limit of descriptors gets no more commands.
            _ => Err(EMFILE),
        };
        if let Err(why) = started {
            // It comes first, so that it has come where any has.
            let report = if parked[0] < 0 { came.first().copied().unwrap_or(-1) } else { parked[0] };
            sys::write(report, &report::failed(why));
            came.iter().for_each(|fd| sys::close(*fd));
        }
        parked.iter().for_each(|fd| sys::close(*fd));
    }

    /// Notes the end of a child that was reaped, if it is one of these commands.
    pub fn reaped(&mut self, pid: i32, wait_status: i32) {
        let found = self.0.iter_mut().enumerate().find(|(_, place)| place.pid == pid);
        if let Some((at, place)) = found {
            end(place, at as u32, wait_status);
        }
    }
}

const EMFILE: i32 = 24;
const ENOEXEC: i32 = 8;

/// # Errors
/// errno: the order cannot be taken. The exit file is not marked then.
fn start(place: &mut Place, order: &Order, parked: &[i32; MOST]) -> Result<(), i32> {
    let [report, request, stdout, stderr, kept_out, kept_err, exit_file, done, stdin, file, pipe] = *parked;
    let kept = [
        (kept_out, KEPT_OUT),
        (kept_err, KEPT_ERR),
        (exit_file, EXIT_FILE),
        (done, DONE),
        (file, INPUT),
        (pipe, INPUT_END),
    ];
    let count = if order.verb == START_FED { kept.len() } else { kept.len() - 2 };
    let (length, tag) = match order.verb {
        START_FED => (order.argument & u64::from(u32::MAX), order.argument >> 32),
        _ => (order.argument, 0),
    };
    let numbers = kept.map(|(fd, which)| (fd, number(order.place, which)));
    let numbers = numbers.get(..count).unwrap_or(&[]);
    let give_up = |why| {
        numbers.iter().for_each(|(_, number)| sys::close(*number));
        Err(why)
    };
    if !numbers.iter().all(|(fd, number)| sys::duplicate_to(*fd, *number)) {
        return give_up(EMFILE);
    }
    let Some(request) = exec_request::map(request, length as usize) else { return give_up(ENOEXEC) };
    if !sys::write_at_start(exit_file, &BEGUN) {
        request.forget();
        return give_up(ENOEXEC);
    }
    // The end of file at the readers of these pipes must come from the command alone.
    for (fd, _) in numbers {
        sys::close(*fd);
    }
    place.is_taken = true;
    place.tag = tag;
    place.started_ns = sys::now_ns();
    let started = exec::start_beside(&request, exec::Streams { stdin, stdout, stderr, report });
    request.forget();
    match started {
        Ok((pid, outcome)) => (place.pid, place.outcome) = (pid, outcome),
        Err(errno) => {
            sys::write(report, &report::failed(errno));
            place.outcome = Outcome { begun: Begun::NotExecuted, defect: Defect::None, errno };
            end(place, order.place, 126 << 8);
        }
    }
    Ok(())
}

/// Writes the exit file, then tells the daemon.
fn end(place: &mut Place, at: u32, wait_status: i32) {
    let Outcome { begun, defect, errno } = place.outcome;
    let exit_file = ExitFile {
        wait_status,
        begun,
        defect,
        errno,
        pid: place.pid,
        started_ns: place.started_ns,
        ended_ns: sys::now_ns(),
        ..ExitFile::default()
    };
    // Nobody is left to hear of a failure.
    let _ = sys::write_at_start(number(at, EXIT_FILE), &exit_file.encode());
    close_input(at);
    sys::close(number(at, EXIT_FILE));
    sys::close(number(at, DONE));
    place.pid = 0;
}
