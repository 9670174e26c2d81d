//! Tier 3, e2e: the real `joblet`, the real `rnx` and the real Python client, over mutual TLS. Every test has a node of its
//! own and checks at its end that the node has left nothing.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics; figures are printed"
)]

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;

mod e2e {
    mod abuse;
    mod access;
    mod appetite;
    mod audit;
    mod bridged_walls;
    mod budgets;
    mod build_walls;
    mod builds;
    mod certificates;
    mod client;
    mod completion;
    mod config;
    mod confinement;
    mod container_software;
    mod custom_networks;
    mod dashboard;
    mod dashboard_pages;
    mod doctor;
    mod durability;
    mod egress;
    mod environment;
    mod execs;
    mod explain;
    mod faults;
    mod foreign_firewalls;
    mod gpu_figures;
    mod gpu_files;
    mod gpu_turns;
    mod gpus;
    mod grace;
    mod graphs;
    mod held_pipes;
    mod history;
    mod history_calls;
    mod history_disk;
    mod history_facts;
    mod history_faults;
    mod history_peers;
    mod history_process;
    mod history_readers;
    mod history_security;
    mod history_user;
    mod history_writers;
    mod idle;
    mod image_users;
    mod images;
    mod inputs;
    mod installs;
    mod ipv6;
    mod job_files;
    mod kept_output;
    mod large_uploads;
    mod levels;
    mod lifecycle;
    mod limits;
    mod listed_names;
    mod live_only;
    mod logs;
    mod metrics;
    mod metrics_endpoint;
    mod monitoring;
    mod names;
    mod network_metrics;
    mod network_rounds;
    mod networks;
    mod no_programs;
    mod node;
    mod odd_input;
    mod ordinary;
    mod output;
    mod pauses;
    mod pools;
    mod ports;
    mod profiles;
    mod promises;
    mod python_sdk;
    mod quick_start;
    mod races;
    mod recipes;
    mod recovery;
    mod run;
    mod runtimes;
    mod security;
    mod session;
    mod shocks;
    mod spool_limits;
    mod survival;
    mod terminal;
    mod top;
    mod uploads;
    mod user;
    mod volume_changes;
    mod volume_files;
    mod volume_walls;
    mod volumes;
    mod waiting;
    mod walls;
    mod workflow;
    mod workflow_arrays;
    mod workflow_client;
    mod workflow_crashes;
    mod workflow_example;
    mod workflow_files;
    mod workflow_graphs;
    mod workflow_kept;
    mod workflow_networks;
    mod workflow_steps;
    mod writable;
}
