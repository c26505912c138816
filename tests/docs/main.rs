//! The documentation is held to what it says: links lead somewhere, configurations load, command lines are taken, marked blocks are run,
//! and what the reference lists is what the program has.
//!
//! Marks in a page, each an HTML comment above the block it is about:
//!
//! | mark | |
//! |---|---|
//! | `<!-- run -->` | run in the page's shell; in `console` blocks, what follows a command must be what it prints, `…` standing for anything |
//! | `<!-- run: exits 20 -->` | the last command ends with this code |
//! | `<!-- run: until -->` | run again until it succeeds and prints what is expected |
//! | `<!-- run: another terminal -->` | started, and left to run |
//! | `<!-- file: config.toml -->` | written where the commands run |
//! | `<!-- unit: NAME -->` | a whole unit; `ini` blocks without a mark are drop-ins of velt-watch.service |
//! | `<!-- generated -->` | made by the test: `VELT_WATCH_UPDATE_DOCS=1 cargo test --test docs` writes it |

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod keys;

mod links;
mod lists;

mod page;
mod session;
mod units;
