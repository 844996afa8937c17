// SPDX-License-Identifier: GPL-2.0 OR MIT

//! The states in which the two ends of a device are, and what an end does when the other one's
//! changes.
//!
//! C header: `xen/io/xenbus.h`. Each end writes its own state to its key `state` and watches the
//! other's. The usual life of a device:
//!
//! ```text
//! back:  Initialising ─▶ InitWait ───────────────▶ Connected ─▶ Closing ─▶ Closed
//! front: Initialising ─────────────▶ Initialised ─▶ Connected ─▶ Closing ─▶ Closed
//! ```
//!
//! Watches fire late, twice, or once for two changes. So [`front`] and [`back`] look at nothing but
//! the two present states, each pair of which has an answer; a pair that honest ends cannot get
//! into, and cannot get out of, is [`OutOfOrder`].

/// The state of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum XenbusState {
    /// There is no key, or no state in it.
    Unknown = 0,
    /// Nothing is set up yet.
    Initialising = 1,
    /// The back end waits for the front end, or for the hotplug script.
    InitWait = 2,
    /// The front end has published its ring.
    Initialised = 3,
    /// In use.
    Connected = 4,
    /// On the way out.
    Closing = 5,
    /// Not in use, nothing is shared any more.
    Closed = 6,
    /// Being set up anew while in use.
    Reconfiguring = 7,
    /// Set up anew.
    Reconfigured = 8,
}

impl From<u32> for XenbusState {
    /// Anything that is not a state is `Unknown`.
    fn from(value: u32) -> Self {
        match value {
            1 => Self::Initialising,
            2 => Self::InitWait,
            3 => Self::Initialised,
            4 => Self::Connected,
            5 => Self::Closing,
            6 => Self::Closed,
            7 => Self::Reconfiguring,
            8 => Self::Reconfigured,
            _ => Self::Unknown,
        }
    }
}

/// The other end is in a state that does not go with ours: it has started anew without telling, or
/// is in a state that its kind does not have. Nothing would ever get this pair going again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfOrder {
    /// Our state.
    pub own: XenbusState,
    /// The other end's.
    pub other: XenbusState,
}

/// What a front end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontAction {
    /// Nothing.
    Nothing,
    /// Make a ring, publish it, go to `Initialised`.
    Publish,
    /// Read what the disk is like, add it, go to `Connected`.
    Connect,
    /// `Publish` and `Connect` in one go.
    PublishAndConnect,
    /// The back end has said `Connected` again: read the size of the disk again.
    Resize,
    /// Go to `Closing`, take the disk away, free the ring, go to `Closed`; of this, what has not
    /// been done yet.
    Close,
}

/// What a front end in state `own` does when its back end is in state `other`.
pub fn front(own: XenbusState, other: XenbusState) -> Result<FrontAction, OutOfOrder> {
    use XenbusState::*;
    Ok(match (own, other) {
        (Closed, _) => FrontAction::Nothing,
        // It has not seen yet that there is a driver here again.
        (Initialising, Closed) => FrontAction::Nothing,
        // From `Closing` too, where an error may have put us.
        (_, Closing | Closed) => FrontAction::Close,
        // On our way out; the back end is about to see it.
        (Closing, _) => FrontAction::Nothing,

        (Initialising, InitWait) => FrontAction::Publish,
        // Its InitWait has escaped us.
        (Initialising, Connected) => FrontAction::PublishAndConnect,
        (Initialised, Connected) => FrontAction::Connect,
        (Connected, Connected) => FrontAction::Resize,

        // Its driver is another one than before, and takes up our ring where the other has stopped.
        (Connected, InitWait) => FrontAction::Nothing,
        // It has lost our ring, and with it the requests in there.
        (Connected, Initialising | Initialised) => return Err(OutOfOrder { own, other }),
        // Not ready yet; or gone for the moment, and with its domain perhaps back in another.
        _ => FrontAction::Nothing,
    })
}

/// What a back end does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackAction {
    /// Nothing.
    Nothing,
    /// The front end starts again: go to `InitWait`.
    Wait,
    /// Map the ring, publish what the disk is like, go to `Connected`.
    Connect,
    /// Go to `Closing`; the ring stays until the front end is `Closed`.
    Close,
    /// Stop, unmap the ring, go to `Closed`; the device stays, the front end may come back.
    Disconnect,
    /// Stop, unmap the ring, go to `Closed`, then unregister the device.
    Unregister,
}

/// What a back end in state `own` does when its front end is in state `other`. `online` is its own
/// key of that name: whether the device is to stay when the front end is gone.
pub fn back(own: XenbusState, other: XenbusState, online: bool) -> Result<BackAction, OutOfOrder> {
    use XenbusState::*;
    Ok(match (own, other) {
        (_, Unknown) => BackAction::Unregister,
        (_, Closed) if !online => BackAction::Unregister,
        (Closed, Closed | Closing) => BackAction::Nothing,
        (_, Closed) => BackAction::Disconnect,

        // States that a front end does not have.
        (_, InitWait | Reconfiguring | Reconfigured) => return Err(OutOfOrder { own, other }),

        // We close, and wait for the front end to follow.
        (Closing, _) => BackAction::Nothing,
        (_, Closing) => BackAction::Close,

        (Closed, Initialising) => BackAction::Wait,
        // It has given up its ring without telling us.
        (Connected, Initialising) => return Err(OutOfOrder { own, other }),
        (_, Initialising) => BackAction::Nothing,

        (Connected, Initialised | Connected) => BackAction::Nothing,
        // From `Closed` too: its Initialising has escaped us.
        (_, Initialised | Connected) => BackAction::Connect,
    })
}

#[cfg(test)]
mod tests {
    use super::XenbusState::*;
    use super::*;

    const ALL: [XenbusState; 9] = [
        Unknown,
        Initialising,
        InitWait,
        Initialised,
        Connected,
        Closing,
        Closed,
        Reconfiguring,
        Reconfigured,
    ];

    #[test]
    fn numbers() {
        for (number, state) in (0u32..).zip(ALL) {
            assert_eq!((XenbusState::from(number), state as u32), (state, number));
        }
        assert_eq!(XenbusState::from(9), Unknown);
        assert_eq!(XenbusState::from(u32::MAX), Unknown);
    }

    /// Both ends act in turns, each by its table, until they are connected; then the one that has
    /// begun goes to `shutdown`. Returns the states in which that ends, the front end's first.
    fn live(front_first: bool, online: bool, shutdown: XenbusState) -> (XenbusState, XenbusState) {
        let (mut f, mut b) = (Initialising, InitWait);
        let turn_front = |f: &mut XenbusState, b| match front(*f, b).unwrap() {
            FrontAction::Publish => *f = Initialised,
            FrontAction::Connect | FrontAction::PublishAndConnect => *f = Connected,
            FrontAction::Close => *f = Closed,
            FrontAction::Nothing | FrontAction::Resize => {}
        };
        let turn_back = |f, b: &mut XenbusState| match back(*b, f, online).unwrap() {
            BackAction::Wait => *b = InitWait,
            BackAction::Connect => *b = Connected,
            BackAction::Close => *b = Closing,
            BackAction::Disconnect | BackAction::Unregister => *b = Closed,
            BackAction::Nothing => {}
        };
        for round in 0..14 {
            if round == 6 {
                assert_eq!((f, b), (Connected, Connected));
                if front_first {
                    f = shutdown;
                } else {
                    b = shutdown;
                }
            }
            if front_first == (round % 2 == 0) {
                turn_front(&mut f, b);
            } else {
                turn_back(f, &mut b);
            }
        }
        (f, b)
    }

    #[test]
    fn both_ends_connect_and_close() {
        for online in [false, true] {
            assert_eq!(live(false, online, Closing), (Closed, Closed));
            assert_eq!(live(true, online, Closing), (Closed, Closed));
            assert_eq!(live(true, online, Closed), (Closed, Closed));
        }
    }

    #[test]
    fn front_table() {
        use FrontAction::*;
        assert_eq!(front(Initialising, InitWait), Ok(Publish));
        assert_eq!(
            front(Initialising, XenbusState::Connected),
            Ok(PublishAndConnect)
        );
        assert_eq!(front(Initialised, XenbusState::Connected), Ok(Connect));
        assert_eq!(
            front(XenbusState::Connected, XenbusState::Connected),
            Ok(Resize)
        );
        for other in ALL {
            assert_eq!(front(Closed, other), Ok(Nothing));
        }
        for own in [Initialising, Initialised, XenbusState::Connected, Closing] {
            assert_eq!(front(own, Closing), Ok(Close));
        }
        for own in [Initialised, XenbusState::Connected, Closing] {
            assert_eq!(front(own, Closed), Ok(Close));
        }
        assert_eq!(
            front(Initialising, Closed),
            Ok(Nothing),
            "it is about to start again"
        );
        assert_eq!(front(Closing, XenbusState::Connected), Ok(Nothing));
        for own in [Initialising, Initialised, XenbusState::Connected] {
            assert_eq!(front(own, Unknown), Ok(Nothing));
            assert_eq!(front(own, Reconfiguring), Ok(Nothing));
        }
        for other in [Initialising, Initialised] {
            let own = XenbusState::Connected;
            assert_eq!(front(own, other), Err(OutOfOrder { own, other }));
        }
        assert_eq!(
            front(Initialised, InitWait),
            Ok(Nothing),
            "it has not seen us yet"
        );
        assert_eq!(
            front(XenbusState::Connected, InitWait),
            Ok(Nothing),
            "it is about to take up our ring"
        );
    }

    #[test]
    fn back_table() {
        use BackAction::*;
        for own in [Initialising, InitWait, Initialised, Closed] {
            assert_eq!(back(own, Initialised, true), Ok(Connect));
            assert_eq!(back(own, XenbusState::Connected, true), Ok(Connect));
        }
        for other in [Initialised, XenbusState::Connected] {
            assert_eq!(back(XenbusState::Connected, other, true), Ok(Nothing));
            assert_eq!(back(Closing, other, true), Ok(Nothing));
        }
        assert_eq!(back(Closed, Initialising, true), Ok(Wait));
        assert_eq!(back(InitWait, Initialising, true), Ok(Nothing));
        assert_eq!(back(XenbusState::Connected, Closing, true), Ok(Close));
        assert_eq!(back(Closing, Closing, true), Ok(Nothing));
        assert_eq!(back(Closing, Closed, true), Ok(Disconnect));
        assert_eq!(back(XenbusState::Connected, Closed, true), Ok(Disconnect));
        assert_eq!(back(Closed, Closed, true), Ok(Nothing));
        for own in ALL {
            assert_eq!(back(own, Closed, false), Ok(Unregister));
            assert_eq!(back(own, Unknown, true), Ok(Unregister));
            for other in [InitWait, Reconfiguring, Reconfigured] {
                assert_eq!(back(own, other, true), Err(OutOfOrder { own, other }));
            }
        }
        let (own, other) = (XenbusState::Connected, Initialising);
        assert_eq!(back(own, other, true), Err(OutOfOrder { own, other }));
    }
}
