//! velt-watch tells people what happens to their Velt workflow executions: it polls each one until it ends and reports every step on
//! the way, on stdout and to webhooks.
//!
//! # The flow
//!
//! ```text
//!  watch list ─▶ schedule ─▶ velt client ─▶ diff ─▶ ┌─────────┐ ─▶ dispatcher ─▶ stdout
//!  (config, args, (who is      (one read)   (what    │  store  │     (per sink,  ─▶ webhook
//!   stdin, file)   due)                     changed) └─────────┘      in order)
//!         [watch]: what changed        [store]: what we remember    [deliver]: whom we tell
//! ```
//!
//! # The map, from the ground up; imports go down only
//!
//! | floor | modules |
//! |---|---|
//! | ground | [`clock`], [`config`], [`exit`], [`http`], [`pace`], [`plain`] |
//! | the API | [`velt`]: its words, its client, the one judge of its answers |
//! | language | [`event`], [`route`] |
//! | memory | [`store`] |
//! | the two wings | [`watch`] and [`deliver`]; they meet only at the store and never name each other |
//! | what there is to say | [`overview`]: for people, from the state and the running daemon |
//! | the house | [`daemon`], [`commands`], [`server`], with [`cli`], [`health`], [`lifecycle`], [`live`], [`logging`], [`meters`], [`systemd`] |
//!
//! # What is guaranteed
//!
//! 1. What a committed read showed is told to every matching sink at least once, or stands in the state as a dead letter with its reason.
//! 2. Snapshot, events and deliveries are committed in one durable transaction *before* anything is printed or sent. (A state in memory, as
//!    an ad-hoc watch has it, lasts as long as its process.)
//! 3. First deliveries come in order per execution and sink. An event that is not taken holds up its own execution at that sink and nothing
//!    else, unless the receiver asks for a pause or fails on everything.
//! 4. An event's id is the same for a re-delivery, a replay and after a restart; that of an end, and of a first entry into a status, from a
//!    second watcher too. From one state the same id has the same bytes, `include_output` apart.
//! 5. Never exactly once: a crash between a delivery and its settlement repeats it. Receivers deduplicate by `id`.
//! 6. What the engine's own stream recorded between two polls is told too, each step's in its order and with its times, as far as the API
//!    answers for it and tells it before the end (`poll.events`). What neither that nor a snapshot shows is not seen.
//! 7. A known end stays: a read that contradicts it is dropped or, repeated, believed in all but that. A broken answer is never a change.
//! 8. No process sends more requests than its budget (`poll.rate_limit`), whatever happens; every request counts.
//! 9. Credentials go to `api.url` and nowhere else; no secret is printed, logged or stored.
//! 10. A state that is damaged, foreign or newer is refused and left as it is.
//!
//! 1 to 8 are proven by simulation (`simulation/`): hours of watching in milliseconds, with faults at every seam and a death
//! between any two steps, read by a checker that knows the truth and shares no code with what it checks.
//!
//! ```text
//! cargo run --profile simulation -p velt-watch-simulation -- --seeds 2000   # any number; the gate runs so many
//! cargo run --profile simulation -p velt-watch-simulation -- --seed 1234    # one again, with its trace
//! simulation/planted/run                                                    # plants bugs, and tells what finds them
//! ```

pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod deliver;
pub mod event;
pub mod exit;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod live;
pub mod logging;
pub mod meters;
pub mod overview;
pub mod pace;
pub mod plain;
pub mod route;
pub mod server;
pub mod store;
pub mod systemd;
pub mod velt;
pub mod watch;
