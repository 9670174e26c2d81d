//! Tier 3, e2e: the real `joblet`, the real `rnx` and the real Python client, over mutual TLS. Every test has a node of its
//! own and checks at its end that nothing is left.

#[path = "helper/mod.rs"]
#[macro_use]
mod helper;
