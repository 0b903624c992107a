//! Hardware: what the machine is (`probe`) and what it is doing while a worker runs (`monitor`).

pub mod usage;
