//! End-to-end tests: the real binary, real workers, one file per user story. Each test has a world
//! of its own with a model so small that a whole run takes a second.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod answers;
mod architectures;
mod bench;
mod calibrate;
mod command_line;
mod compare;
mod convert;
mod deploy;
mod disk;
mod failures;
mod files;
mod golden;
mod gpu;
mod history;
mod host;
mod hostile_files;
mod hub;
mod idle;
mod import;
mod interruption;
mod keeping;
mod limits;
mod lora;
#[cfg(feature = "mcp")]
mod mcp;
mod methods;
mod mix;
mod models;
mod not_models;
mod onnx_export;
mod onnxruntime;
mod pictures;
mod plan;
mod proxy;
mod quantize;
mod real;
mod recommend;
mod report;
mod run;
mod schemas;
mod shapes;
mod tasks;
mod templates;
mod tiny_model;
mod tune;
mod world;
