//! The client; see [`joblet::rnx`].

fn main() {
    joblet::rnx::main()
}
