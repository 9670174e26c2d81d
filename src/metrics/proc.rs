//! Parsers of /proc (proc(5)), pure functions of text.

use super::sample::{Network, Packets};

/// The state of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It runs or is ready to run.
    Running,
    /// It waits, which includes waiting for a disk.
    Sleeping,
    /// It was stopped by a signal or a tracer.
    Stopped,
    /// It has ended, and its parent has not waited for it.
    Zombie,
}

/// The values read from `/proc/<pid>/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The state of the process.
    pub doing: Doing,
    /// The number of its threads.
    pub threads: u64,
    /// Resident memory in bytes: anonymous, of files, and shared. Kernel threads and zombies have none.
    pub resident: [u64; 3],
}

/// Parses `/proc/<pid>/status`; `None` without a state.
pub fn status(text: &str) -> Option<Status> {
    // A process may have any name, but the kernel escapes a line break in it.
    let field =
        |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let doing = match field("State")?.chars().next()? {
        'R' => Doing::Running,
        'T' | 't' => Doing::Stopped,
        'Z' | 'X' => Doing::Zombie,
        _ => Doing::Sleeping,
    };
    let kib = |name| field(name).and_then(|v| v.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
    Some(Status {
        doing,
        threads: field("Threads").and_then(|n| n.parse().ok()).unwrap_or(0),
        resident: ["RssAnon", "RssFile", "RssShmem"].map(|name| kib(name).saturating_mul(1024)),
    })
}

/// Parses the soft limit of open files in `/proc/<pid>/limits`.
pub fn max_open_files(text: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

/// The interface of a job that has a network, and that of one that has none.
const INTERFACES: [&str; 2] = ["eth0", "lo"];

/// Parses `/proc/<pid>/net/dev`, without rates: the job's wire where it has one, whose loopback carries nothing that is the
/// network's; else the loopback. `None` where there is neither.
pub fn net_dev(text: &str) -> Option<Network> {
    let line_of = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.trim() == name).map(|(_, numbers)| numbers)
    };
    let (name, numbers) = INTERFACES.iter().find_map(|name| Some((*name, line_of(name)?)))?;
    let mut n = [0u64; 16];
    let mut words = numbers.split_whitespace();
    for place in &mut n {
        *place = words.next()?.parse().ok()?;
    }
    let packets = Packets {
        rx_bytes: n[0],
        rx_packets: n[1],
        rx_errors: n[2],
        rx_dropped: n[3],
        tx_bytes: n[8],
        tx_packets: n[9],
        tx_errors: n[10],
        tx_dropped: n[11],
    };
    let interfaces = [(name.to_owned(), packets)].into();
    Some(Network { interfaces, total: packets, ..Network::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn process_status_gives_state_threads_and_memory() {
        let text = "Name:\tx State:\tZ\nUmask:\t0022\nState:\tD (disk sleep)\nRssAnon:\t     116 kB\n\
                    RssFile:\t       4 kB\nThreads:\t3\n";
        let resident = [116 << 10, 4 << 10, 0];
        assert_eq!(status(text), Some(Status { doing: Doing::Sleeping, threads: 3, resident }));
        for (word, doing) in [("R (running)", Doing::Running), ("t (tracing stop)", Doing::Stopped)] {
            assert_eq!(status(&format!("State:\t{word}\n")).unwrap().doing, doing);
        }
        assert_eq!(status("State:\tZ (zombie)\nThreads:\t1\n").unwrap().doing, Doing::Zombie);
        assert_eq!(status("Name:\tx\n"), None);
        assert_eq!(
            status(&std::fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap().doing,
            Doing::Running
        );
    }

    #[test]
    fn the_limit_of_open_files_is_the_soft_one() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(max_open_files(text), Some(1024));
        assert_eq!(max_open_files("Max open files unlimited unlimited files"), None);
        assert!(max_open_files(&std::fs::read_to_string("/proc/self/limits").unwrap()).is_some());
    }

    const HEADING: &str = "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    #[test]
    fn wire_is_read_and_the_loopback_is_not_its_traffic() {
        let text = format!(
            "{HEADING}    lo:1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n  eth0:     100       2    3    4    0     0          0         0      50       6    7    8    0     0       0          0\n"
        );
        let network = net_dev(&text).unwrap();
        let wire = network.interfaces["eth0"];
        assert_eq!((wire.rx_bytes, wire.rx_packets, wire.rx_errors, wire.rx_dropped), (100, 2, 3, 4));
        assert_eq!((wire.tx_bytes, wire.tx_packets, wire.tx_errors, wire.tx_dropped), (50, 6, 7, 8));
        assert_eq!((network.total, network.interfaces.len()), (wire, 1));
        let alone = format!("{HEADING}    lo:1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n");
        assert_eq!(net_dev(&alone).unwrap().interfaces["lo"].rx_bytes, 1, "a job without a network");
        for without in [HEADING, "eth0: 1 2 3\n"] {
            assert_eq!(net_dev(without), None, "{without}");
        }
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(numbers in prop::collection::vec(any::<u64>(), 16)) {
            let line: Vec<String> = numbers.iter().map(u64::to_string).collect();
            let network = net_dev(&format!("{HEADING}eth0: {}\n", line.join(" "))).unwrap();
            let packets = network.interfaces["eth0"];
            prop_assert_eq!((packets.rx_bytes, packets.tx_dropped), (numbers[0], numbers[11]));
            prop_assert_eq!(network.total, packets);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "((State|Threads|RssAnon|eth0|Max open files):?[ \t0-9RSTZ]{0,40}\n){0,9}.*") {
            let _ = (status(&text), max_open_files(&text));
            let _ = net_dev(&text);
        }
    }
}
