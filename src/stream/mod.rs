//! Many readers of one growing thing.
//!
//! A thing grows at its end only, such as the output of a process. Its writer publishes in a [`Watermark`] how far it
//! has come and whether it has ended. Each reader has a cursor of its own, a [`Source`], which returns what comes next
//! ([`Next`]) and blocks on the disk at worst. One thread, the [`Pump`], moves items from all sources into the queues
//! of their streams, each as fast as its client takes them. A slow client thus costs a queue and a cursor; it delays
//! neither the writer nor another client. Clients that read fast share the thread's time equally, however many streams
//! each of them has.
//!
//! This room does not know what grows, who reads it, or which protocol carries it: the caller supplies the items, the
//! value that ends a stream early, and the check whether a client may go on reading.
//!
//! # Bounds
//!
//! [`pump::STREAMS`] streams, one queued item each. For each listener of a watermark at most one notification is under
//! way, so a queue of notifications is bounded by the number of listeners. The pump listens once to a watermark,
//! however many of its streams wait for it.

pub mod pump;
pub mod source;
pub mod turns;
pub mod watermark;

pub use pump::{Client, OpenError, Pump, Queued, StreamReader};
pub use source::{Next, Source};
pub use watermark::{Listener, Watermark};
