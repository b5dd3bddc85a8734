//! Command line of `origin`.

fn main() {}
