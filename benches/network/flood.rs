//! One job floods; the others' times.

use crate::figures::at_most;
use crate::helper::TestDaemon;
use crate::helper::network::host_and_outside;
use crate::helper::programs;
use crate::names::in_host;
use crate::paths::{OUTSIDE, PORT, Server, figures};

/// What floods: the kind, its target, and the port.
const FLOODS: [(&str, &str, &str, &str); 4] = [
    ("connections", "connect", OUTSIDE, "7001"),
    ("SYNs to dead addresses", "syn", "198.51.100.1", "7001"),
    ("denials", "deny", "10.20.30.1", "1"),
    ("questions", "ask", "169.254.1.53", "53"),
];

pub fn measure(trips: usize, questions: usize) {
    let pump = programs::c("pump");
    let (host, outside) = host_and_outside();
    let _served = Server::start(&outside, &pump, PORT);
    let _flooded = Server::start(&outside, &pump, "7001");
    let text = pump.display().to_string();
    in_host(&host, &outside, || beside(&text, &trips.to_string(), &questions.to_string()));
}

fn beside(pump: &str, trips: &str, questions: &str) {
    let mut d = TestDaemon::start();
    let job = |words: &[&str]| {
        let args = ["--network", "bridge", "--upload", pump, "./pump"];
        figures(&d.run(args.iter().chain(words)).ok())
    };
    let measured = || {
        [
            job(&["rtt", OUTSIDE, PORT, trips]),
            job(&["connect", OUTSIDE, PORT, trips]),
            job(&["ask", "169.254.1.53", "www.example.org", questions]),
        ]
    };
    let row = |what: &str, found: [(f64, f64); 3]| {
        let cells = found.map(|(p50, p99)| format!("{p50:>10.0} {p99:>10.0}"));
        println!("{what:<34} {}", cells.join("  "));
    };
    println!(
        "\np50 and p99 us, another job beside: {:>20} {:>22} {:>22}",
        "round trip", "connection", "question"
    );
    // The first jobs use all code for the first time.
    job(&["rtt", OUTSIDE, PORT, "50"]);
    let alone = measured();
    row("nothing", alone);
    // A program that only computes takes a processor too.
    let spinner = d.submit(["--network", "bridge", "sh", "-c", "while :; do :; done"]);
    row("a program that computes", measured());
    d.rnx(["job", "stop", &spinner]).ok();
    for (name, kind, host, port) in FLOODS {
        let flood = d.submit(["--network", "bridge", "--upload", pump, "./pump", "flood", kind, host, port]);
        let found = measured();
        row(name, found);
        for ((what, alone), beside) in ["round trip", "connection", "question"].iter().zip(alone).zip(found) {
            at_most(&format!("p99 of a {what} beside a flood of {name}"), beside.1 / alone.1, 2.0);
        }
        d.rnx(["job", "stop", &flood]).ok();
    }
    d.keep_descriptors();
    d.stop();
}
