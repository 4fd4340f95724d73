//! The suites that need no process of their own, in one: it is linked once, and where one suite leaves a core idle, others
//! run. A suite's tests are its module's: `cargo test -p relc-tests --test suites -- engine::`.

mod architectures;
mod artifact;
mod batchnorm;
mod conservation;
mod corpus;
mod cost;
mod docs;
mod engine;
mod ensembles;
mod export;
mod external;
mod filetests;
mod gradients;
mod methods;
mod mutations;
mod networks;
mod nodes;
mod operators;
mod oracle;
mod presets;
mod programs;
mod quantised;
mod random;
mod references;
mod signs;
mod testing;
mod twins;
mod warnings;
mod zoo;
