//! Whom we tell: takes what the outbox holds to every sink.
