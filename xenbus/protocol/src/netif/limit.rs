// SPDX-License-Identifier: GPL-2.0 OR MIT

//! What a back end keeps for one device: its rate, and the multicast addresses that it lets
//! through.

/// The most bytes that may be sent at once, however little credit there is: a large packet must get
/// through at some time.
pub const MIN_BURST: u64 = 131_072;

/// A rate: so many bytes in so many microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes of credit for each window.
    pub bytes: u64,
    /// Length of a window, in microseconds; 0: no limit.
    pub usec: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        bytes: u64::MAX,
        usec: 0,
    };

    /// Reads the back end's key `rate`, "BYTES,MICROSECONDS". `None`: it is something else.
    pub fn parse(value: &str) -> Option<Self> {
        let mut numbers = [0u64; 2];
        let mut parts = value.as_bytes().split(|byte| *byte == b',');
        for number in &mut numbers {
            let digits = parts.next().filter(|digits| !digits.is_empty())?;
            for digit in digits {
                let digit = char::from(*digit).to_digit(10)?;
                *number = number.saturating_mul(10).saturating_add(digit.into());
            }
        }
        let [bytes, usec] = numbers;
        parts.next().is_none().then_some(Self { bytes, usec })
    }
}

/// The credit of one queue. Time is in microseconds from any start, and does not go back.
#[derive(Clone, Copy, Debug)]
pub struct Credit {
    rate: Rate,
    left: u64,
    window: u64,
}

impl Credit {
    /// A full credit, at the time `now`.
    pub const fn new(rate: Rate, now: u64) -> Self {
        Self {
            rate,
            left: rate.bytes,
            window: now,
        }
    }

    /// Changes the rate. Credit beyond the new one is lost.
    pub fn set_rate(&mut self, rate: Rate) {
        self.rate = rate;
        self.left = self.left.min(rate.bytes);
    }

    /// The rate, what is left of it, in bytes, and when there is more.
    pub fn state(&self) -> (Rate, u64, u64) {
        let next = self.window.saturating_add(self.rate.usec);
        (self.rate, self.left, next)
    }

    /// Takes `bytes` of credit for a packet. `Err`: there is not enough; the time when there is more.
    #[inline]
    pub fn take(&mut self, bytes: u32, now: u64) -> Result<(), u64> {
        if self.rate.usec == 0 {
            return Ok(());
        }
        let bytes = u64::from(bytes);
        let next = self.window.saturating_add(self.rate.usec);
        if bytes > self.left && now >= next {
            self.window = now;
            let most = self.rate.bytes.max(MIN_BURST);
            self.left = self.left.saturating_add(self.rate.bytes).min(most);
        }
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(self.window.saturating_add(self.rate.usec)),
        }
    }
}

/// The most multicast addresses that a device lets through.
pub const MAX_MULTICAST: usize = 64;

/// Too many multicast addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The multicast addresses that a front end wants to receive.
#[derive(Clone, Debug)]
pub struct MulticastFilter {
    addresses: [[u8; 6]; MAX_MULTICAST],
    count: usize,
}

impl MulticastFilter {
    /// None.
    pub const fn new() -> Self {
        Self {
            addresses: [[0; 6]; MAX_MULTICAST],
            count: 0,
        }
    }

    /// Changes the filter. An address that was added twice must be taken out twice; to take out one
    /// that is not there does nothing.
    pub fn change(&mut self, change: super::Multicast) -> Result<(), TooMany> {
        match change {
            super::Multicast::Add(address) => {
                *self.addresses.get_mut(self.count).ok_or(TooMany)? = address;
                self.count = self.count.wrapping_add(1);
            }
            super::Multicast::Del(address) => {
                let Some(at) = self.iter().position(|a| *a == address) else {
                    return Ok(());
                };
                self.count = self.count.wrapping_sub(1);
                let last = self.addresses.get(self.count).copied();
                if let (Some(to), Some(last)) = (self.addresses.get_mut(at), last) {
                    *to = last;
                }
            }
        }
        Ok(())
    }

    /// Whether a frame to `address` is let through: one that is not multicast, or broadcast, always
    /// is.
    #[inline]
    pub fn lets_through(&self, address: &[u8; 6]) -> bool {
        let [first, ..] = *address;
        first & 1 == 0 || *address == [0xff; 6] || self.iter().any(|a| a == address)
    }

    /// The addresses.
    pub fn iter(&self) -> impl Iterator<Item = &[u8; 6]> {
        self.addresses.get(..self.count).unwrap_or(&[]).iter()
    }
}

impl Default for MulticastFilter {
    fn default() -> Self {
        Self::new()
    }
}
