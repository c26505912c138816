//! The delivery side under simulated time with fakes at its seams, and a little real HTTP.

pub(super) mod fixture;
