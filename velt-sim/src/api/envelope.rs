//! The error envelope and the statuses the documentation lists, each with its usual HTTP code.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// `error.status` of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorStatus {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    FailedPrecondition,
    AlreadyExists,
    ResourceExhausted,
    DeadlineExceeded,
    Unavailable,
    Internal,
    /// One that the documentation does not have (yet).
    #[serde(untagged)]
    Other(String),
}

impl ErrorStatus {
    /// Every documented status.
    pub const DOCUMENTED: [Self; 10] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::FailedPrecondition,
        Self::AlreadyExists,
        Self::ResourceExhausted,
        Self::DeadlineExceeded,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The HTTP code that usually comes with it.
    pub fn usual_code(&self) -> u16 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists => 409,
            Self::ResourceExhausted => 429,
            Self::Internal | Self::Other(_) => 500,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }
}

/// An answer that is an error envelope.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: ErrorStatus,
    pub(crate) code: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: ErrorStatus, message: impl Into<String>) -> Self {
        let code = StatusCode::from_u16(status.usual_code()).expect("the usual codes are valid");
        Self { status, code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorStatus::InvalidArgument, message)
    }

    pub(crate) fn not_found(execution_id: &str) -> Self {
        Self::new(ErrorStatus::NotFound, format!("Execution {execution_id} not found"))
    }

    pub(crate) fn body(&self) -> String {
        serde_json::json!({"error": {"message": self.message, "status": self.status, "details": {}}}).to_string()
    }
}
