//! The daemon; see [`joblet::joblet`].

fn main() {
    joblet::joblet::main()
}
