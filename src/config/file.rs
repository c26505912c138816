//! Reads TOML with spans.
