//! joblet: isolated, limited, measured Linux jobs on one host. This file is the map; each room opens
//! with its own theory of operation. Rooms of a lower level never import those of a higher one
//! (`tests/house.rs` keeps the arrows).

// Level 4: wiring.
pub mod joblet; // the daemon's command line
// Level 3: the edges.
pub mod api; // gRPC in, commands out
pub mod rnx; // the client
// Level 2: the loop.
pub mod daemon; // owns every mutable thing
pub mod doctor; // is this host fit for the daemon?
// Level 1: what the loop is made of.
pub mod audit; // who changed what: lines in a chain
pub mod cgroup; // limits and accounting of one job, cgroup v2
pub mod exporter; // the endpoint /metrics
pub mod files; // copies of files and trees, between a client and a node
pub mod forward; // connections to the ports of jobs
pub mod gpu; // GPUs of the host: found, chosen for a job, shown to it
pub mod image; // images of containers: an archive in, layers on disk out
pub mod input; // standard input of jobs: accepted, kept, moved into a pipe
pub mod metrics; // samples of a job: what it uses, over its time
pub mod monitor; // the host itself: readings, samples, the cloud below
pub mod network; // what a job reaches: wires, the router, its rules
pub mod output; // bytes of a job: spool and readers
pub mod persist; // history of output and samples: the process that keeps it, and the wire to it
pub mod registry; // where runtimes are published: the index, and fetching
pub mod resolver; // names for jobs: the process that answers them, and the wire to it
pub mod runtime; // roots of jobs other than the host's
pub mod sandbox; // isolation of one job
pub mod state; // job records that survive the daemon
pub mod stream; // many readers of one growing thing
pub mod upload; // client files beneath a directory descriptor
pub mod volume; // files that outlive jobs: images, tmpfs, their mounts
pub mod workflow; // jobs that wait for each other: the file, the graph, its progress
// Level 0: words.
pub mod certs; // CA, server, admin and viewer certificates
pub mod config; // configuration files and their keys
pub mod diag; // the daemon's log lines
pub mod init_abi; // the agreement between joblet-init and the daemon
pub mod job; // what a job is: pure words, no I/O
pub mod pb; // generated messages and stubs
pub mod sys; // the kernel made safe
