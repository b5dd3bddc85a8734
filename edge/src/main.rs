//! Command line of `edge`.

fn main() {}
