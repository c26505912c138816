//! What a person asks beside the watching. Each command takes its world as arguments and writes to what it is given.

pub mod retry;
pub mod status;

use std::io;

use thiserror::Error;

use crate::store::StoreError;

/// Why a command couldn't answer.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A closed pipe is one of these: the reader has seen enough.
    #[error("the answer can't be written: {0}")]
    Output(#[from] io::Error),
}
