// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The kernel's side of a tap's rings: what it remembers, and how it checks what the program says.
//!
//! - `tapped/pieces.rs`: [`Pieces`], which parts of the data window are in use
//! - `tapped/fifo.rs`: [`Fifo`], requests that wait, in their order
//! - `tapped/sent.rs`: [`Sent`], the guest's requests that the program has
//! - `tapped/check.rs`: [`check()`], of the program's own requests

mod check;
mod fifo;
mod pieces;
mod sent;

pub use check::{check, check_geometry, Bad, Data};
pub use fifo::Fifo;
pub use pieces::{Piece, Pieces};
pub use sent::{Answered, Entry, Sent, Unknown};
