//! Limits the number of open connections. A guest is a connection on which the client has sent no valid token yet.
//! Guests may use only a share of all slots. If the share is full, a new guest replaces the oldest guest of the network
//! with the most guests. So a silent connection cannot keep a slot, and a new connection has time to send its token.
//!
//! A connection with a valid token is never closed for another connection. If connections with valid tokens fill all
//! slots, the server still admits a few guests. Such a guest may be a health check, or a client that must send a
//! request before it can reconnect.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

/// Maximum number of connections that are being closed to make room for new ones. Above this number, new connections
/// are refused.
const MAX_CLOSING: usize = 1024;
/// Maximum number of connections that get an error response while they are being closed. Further connections are closed
/// without a response, which is faster.
const MAX_TOLD: usize = 128;
/// Number of guests (connections without a valid token) that are admitted when other connections fill all slots. The
/// number is lower if the system has few file descriptors.
const EXTRA_GUESTS: usize = 16;

/// The maximum numbers of open connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of all connections.
    pub max: usize,
    /// Maximum number of guests. A guest is a connection without a valid token.
    pub max_guests: usize,
    /// Maximum number of guests from one network. A guest is a connection without a valid token.
    pub max_guests_of_network: usize,
}

/// The network of a client: an IPv4 address, or the first 64 bits of an IPv6 address. A provider usually gives one
/// customer all addresses with these bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network to which an address belongs.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        }
    }
}

/// Whether a connection comes from a client or from a trusted proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The peer is a client, or a proxy that is not trusted.
    Client,
    /// The peer is a trusted proxy. It connects on behalf of many clients, so the limit of one network does not apply.
    Proxy,
}

/// The limit that made the server close a guest. A guest is a connection without a valid token. The server closes it to
/// make room for a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The limit of all connections, with and without a valid token.
    All,
    /// The limit of all guests (connections without a valid token).
    Guests,
    /// The limit of guests (connections without a valid token) from one network.
    Network,
}

impl Bound {
    /// The value of the metric's label `limit`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Guests => "unauthenticated",
            Self::Network => "address",
        }
    }
}

/// The error for a connection that gets no slot, because all slots are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Counts and limits the connections of one listening socket.
#[derive(Debug)]
pub struct ConnectionLimits {
    limits: Limits,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: usize,
    guests: usize,
    closing: usize,
    next_number: u64,
    /// The network of each guest. A guest is a connection without a valid token. The key is the guest's number.
    guest_networks: HashMap<u64, Network>,
    /// The guests (connections without a valid token) of each network. The inner key is the guest's number; an older
    /// guest has a lower number.
    networks: HashMap<Network, BTreeMap<u64, Weak<ConnectionSlot>>>,
    /// All networks with guests, ordered by the number of guests, and then by the age of the oldest guest. If a guest
    /// must be closed, it is the oldest guest of the last network in this order.
    crowded: BTreeSet<(usize, Reverse<u64>, Network)>,
}

/// The slot of one open connection. Dropping this value frees the slot.
#[derive(Debug)]
pub struct ConnectionSlot {
    limits: Arc<ConnectionLimits>,
    number: u64,
    /// Maximum number of all connections at the time when this connection was admitted. The number is lower if the
    /// system has few file descriptors.
    max: usize,
    is_guest: AtomicBool,
    closed: AtomicBool,
    has_reason: AtomicBool,
    close: Notify,
}

/// How the server closes a guest (a connection without a valid token) to make room for another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// The client gets an error response with the reason before the connection is closed.
    WithReason,
    /// The connection is closed immediately, because its slot is needed now, or because too many connections are being
    /// closed already.
    AtOnce,
}

impl ConnectionLimits {
    /// Creates the limits, without connections.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inner: Mutex::default(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a new connection. It is a guest until its client sends a valid token. `files` is the number of
    /// connections for which the system has file descriptors. Returns the connection's slot. If an older guest is
    /// closed to make room, also returns the limit that was reached.
    pub fn admit(
        self: &Arc<Self>,
        network: Network,
        origin: Origin,
        files: usize,
    ) -> Result<(Arc<ConnectionSlot>, Option<Bound>), Full> {
        let beyond = EXTRA_GUESTS.min(files / 4);
        let max = self.limits.max.min(files - beyond);
        let mut inner = self.inner();
        let mut closed = None;
        let closing = match inner.open < max && inner.closing < MAX_TOLD {
            true => Closing::WithReason,
            false => Closing::AtOnce,
        };
        if origin == Origin::Client && inner.guests_of(network) >= self.limits.max_guests_of_network {
            inner.close_oldest_of(network, closing);
            closed = Some(Bound::Network);
        } else if inner.guests >= self.limits.max_guests {
            inner.close_a_guest(closing);
            closed = Some(Bound::Guests);
        }
        if inner.open - inner.closing >= max && inner.guests >= beyond {
            if !inner.close_a_guest(Closing::AtOnce) {
                return Err(Full);
            }
            closed = Some(Bound::All);
        }
        if inner.closing > MAX_CLOSING {
            return Err(Full);
        }
        let number = inner.next_number;
        inner.next_number += 1;
        inner.open += 1;
        let slot = Arc::new(ConnectionSlot {
            limits: Arc::clone(self),
            number,
            is_guest: AtomicBool::new(true),
            max,
            closed: AtomicBool::new(false),
            has_reason: AtomicBool::new(false),
            close: Notify::new(),
        });
        inner.add_guest(network, number, &slot);
        Ok((slot, closed))
    }

    /// Closes a guest (a connection without a valid token), because the system has no free file descriptor. Returns
    /// `false` if there is no guest.
    pub fn close_a_guest(&self) -> bool {
        self.inner().close_a_guest(Closing::AtOnce)
    }

    /// The number of all open connections, and the number of guests (connections without a valid token) among them.
    pub fn count(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.open, inner.guests)
    }
}

impl Inner {
    fn guests_of(&self, network: Network) -> usize {
        self.networks.get(&network).map_or(0, BTreeMap::len)
    }

    /// Applies `change` to the guests (connections without a valid token) of a network. Then moves the network in
    /// `crowded`, which is ordered by the number of guests.
    fn change(&mut self, network: Network, change: impl FnOnce(&mut BTreeMap<u64, Weak<ConnectionSlot>>)) {
        let guests = self.networks.entry(network).or_default();
        let rank = |guests: &BTreeMap<u64, _>| {
            let (oldest, _) = guests.first_key_value()?;
            Some((guests.len(), Reverse(*oldest), network))
        };
        let before = rank(guests);
        let count = guests.len();
        change(guests);
        let after = rank(guests);
        self.guests = self.guests + guests.len() - count;
        if guests.is_empty() {
            self.networks.remove(&network);
        }
        if let Some(before) = before {
            self.crowded.remove(&before);
        }
        self.crowded.extend(after);
    }

    fn add_guest(&mut self, network: Network, number: u64, slot: &Arc<ConnectionSlot>) {
        self.guest_networks.insert(number, network);
        self.change(network, |guests| {
            guests.insert(number, Arc::downgrade(slot));
        });
    }

    fn remove_guest(&mut self, number: u64) {
        if let Some(network) = self.guest_networks.remove(&number) {
            self.change(network, |guests| {
                guests.remove(&number);
            });
        }
    }

    fn close_a_guest(&mut self, closing: Closing) -> bool {
        match self.crowded.last().copied() {
            Some((_, _, network)) => self.close_oldest_of(network, closing),
            None => false,
        }
    }

    fn close_oldest_of(&mut self, network: Network, closing: Closing) -> bool {
        let mut oldest = None;
        self.change(network, |guests| oldest = guests.pop_first());
        let Some((number, slot)) = oldest else { return false };
        self.guest_networks.remove(&number);
        if let Some(slot) = slot.upgrade() {
            slot.is_guest.store(false, Ordering::Relaxed);
            slot.has_reason.store(closing == Closing::WithReason, Ordering::Relaxed);
            slot.closed.store(true, Ordering::Relaxed);
            slot.close.notify_one();
            self.closing += 1;
        }
        true
    }
}

impl ConnectionSlot {
    /// Records that the client has sent a valid token, so the connection is no longer a guest. `Err`: connections with
    /// valid tokens fill all slots, so the connection stays a guest.
    pub fn authenticate(&self) -> Result<(), Full> {
        let may_go = self.is_guest.load(Ordering::Relaxed) || self.closed.load(Ordering::Relaxed);
        if !may_go {
            return Ok(());
        }
        let mut inner = self.limits.inner();
        if inner.open - inner.closing - inner.guests >= self.max {
            return Err(Full);
        }
        if self.is_guest.swap(false, Ordering::Relaxed) {
            inner.remove_guest(self.number);
        } else if self.closed.swap(false, Ordering::Relaxed) {
            // The connection was chosen to be closed, but is still open. It stays open, because it has a valid token
            // now.
            inner.closing -= 1;
        }
        Ok(())
    }

    /// Counts this connection in the network of its real client, whose address a trusted proxy has forwarded. Before,
    /// it was counted in the proxy's network. A connection with a valid token counts in no network.
    pub fn is_of(self: &Arc<Self>, network: Network) {
        let mut inner = self.limits.inner();
        if !self.is_guest.load(Ordering::Relaxed) {
            return;
        }
        inner.remove_guest(self.number);
        if inner.guests_of(network) >= self.limits.limits.max_guests_of_network {
            inner.close_oldest_of(network, Closing::AtOnce);
        }
        inner.add_guest(network, self.number, self);
    }

    /// Waits until the server must close this connection to make room for others. Returns how to close it.
    pub async fn closed(&self) -> Closing {
        loop {
            self.close.notified().await;
            if self.closed.load(Ordering::Relaxed) {
                return match self.has_reason.load(Ordering::Relaxed) {
                    true => Closing::WithReason,
                    false => Closing::AtOnce,
                };
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut inner = self.limits.inner();
        inner.open -= 1;
        if *self.closed.get_mut() {
            inner.closing -= 1;
        }
        if *self.is_guest.get_mut() {
            inner.remove_guest(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Origin::{Client, Proxy};
    use super::*;

    fn network(last: u8) -> Network {
        Network::of([192, 0, 2, last].into())
    }

    fn limits(max: usize, max_guests: usize, max_guests_of_network: usize) -> Arc<ConnectionLimits> {
        ConnectionLimits::new(Limits {
            max,
            max_guests,
            max_guests_of_network,
        })
    }

    fn closed(slot: &ConnectionSlot) -> bool {
        slot.closed.load(Ordering::Relaxed)
    }

    #[test]
    fn the_oldest_guest_of_the_network_that_has_the_most_goes_first() {
        let limits = limits(100, 6, 100);
        let admit = |last| limits.admit(network(last), Client, usize::MAX).unwrap();
        let quiet = admit(1);
        let crowd: Vec<_> = (0..5).map(|_| admit(2)).collect();
        assert_eq!(limits.count(), (6, 6));
        let newcomer = admit(3);
        assert_eq!(newcomer.1, Some(Bound::Guests));
        assert!(closed(&crowd[0].0) && crowd[1..].iter().all(|(slot, _)| !closed(slot)));
        assert!(!closed(&quiet.0));
        // Another guest of the crowded network replaces the oldest guest of that network.
        admit(2);
        assert!(closed(&crowd[1].0) && !closed(&quiet.0) && !closed(&newcomer.0));
    }

    #[test]
    fn connections_with_a_token_are_never_closed_and_guests_beyond_all_slots_get_an_error() {
        let limits = limits(3, 100, 100);
        let known: Vec<_> = (0..3)
            .map(|_| {
                let (slot, _) = limits.admit(network(1), Client, usize::MAX).unwrap();
                slot.authenticate().unwrap();
                slot
            })
            .collect();
        assert_eq!(limits.count(), (3, 0));
        let beyond: Vec<_> = (0..EXTRA_GUESTS)
            .map(|_| limits.admit(network(2), Client, usize::MAX).unwrap())
            .collect();
        assert!(beyond.iter().all(|(_, bound)| bound.is_none()));
        assert_eq!(beyond[0].0.authenticate(), Err(Full));
        let (newcomer, bound) = limits.admit(network(3), Client, usize::MAX).unwrap();
        assert_eq!(bound, Some(Bound::All));
        assert!(closed(&beyond[0].0) && !closed(&beyond[1].0) && known.iter().all(|slot| !closed(slot)));
        drop(known);
        assert_eq!(newcomer.authenticate(), Ok(()));
    }

    #[test]
    fn a_proxys_connections_are_no_network_but_guests_until_a_client_of_it_shows_a_token() {
        let limits = limits(10, 6, 2);
        let of_proxy = || limits.admit(network(9), Proxy, usize::MAX).unwrap();
        let silent: Vec<_> = (0..6).map(|_| of_proxy()).collect();
        assert!(
            silent.iter().all(|(_, bound)| bound.is_none()),
            "the limit of one network does not apply to a proxy"
        );
        let (newcomer, bound) = of_proxy();
        assert_eq!(bound, Some(Bound::Guests));
        assert!(closed(&silent[0].0) && !closed(&silent[1].0));
        newcomer.authenticate().unwrap();
        let _others: Vec<_> = (0..20).map(|_| of_proxy()).collect();
        assert!(!closed(&newcomer));
    }

    #[test]
    fn one_that_shows_its_token_in_the_moment_in_which_it_should_go_stays() {
        let limits = limits(10, 1, 1);
        let (first, _) = limits.admit(network(1), Client, usize::MAX).unwrap();
        let _second = limits.admit(network(1), Client, usize::MAX).unwrap();
        assert!(closed(&first));
        first.authenticate().unwrap();
        assert!(!closed(&first));
        assert_eq!(limits.inner().closing, 0);
    }

    #[test]
    fn guests_behind_a_proxy_are_those_of_their_own_networks() {
        let limits = limits(100, 100, 2);
        let of = |last| {
            let (slot, _) = limits.admit(network(1), Client, usize::MAX).unwrap();
            slot.is_of(network(last));
            slot
        };
        let crowd: Vec<_> = (0..5).map(|_| of(7)).collect();
        let quiet = of(8);
        assert_eq!(crowd.iter().filter(|slot| closed(slot)).count(), 3);
        assert!(!closed(&quiet));
        drop((crowd, quiet));
        assert_eq!(limits.count(), (0, 0));
        assert!(limits.inner().guest_networks.is_empty() && limits.inner().networks.is_empty());
    }

    #[test]
    fn a_network_is_an_address_of_ipv4_or_half_of_one_of_ipv6() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn a_slot_that_is_left_is_left_wherever_it_was_counted() {
        let limits = limits(10, 5, 2);
        let proxy = limits.admit(network(9), Proxy, usize::MAX).unwrap();
        let slots: Vec<_> = (0..20)
            .filter_map(|number| limits.admit(network(number % 3), Client, usize::MAX).ok())
            .collect();
        for (slot, _) in slots.iter().step_by(2) {
            let _ = slot.authenticate();
        }
        drop((slots, proxy));
        assert_eq!(limits.count(), (0, 0));
        let inner = limits.inner();
        assert!(inner.closing == 0 && inner.networks.is_empty() && inner.crowded.is_empty());
    }

    #[test]
    fn fewer_may_be_open_than_the_settings_say_where_the_system_has_fewer_files() {
        let limits = limits(100, 100, 100);
        let known: Vec<_> = (0..9)
            .map(|_| limits.admit(network(1), Client, 12).unwrap().0)
            .collect();
        known.iter().for_each(|slot| slot.authenticate().unwrap());
        let (guests, _) = (0..10)
            .map(|_| limits.admit(network(2), Client, 12).unwrap())
            .collect::<(Vec<_>, Vec<_>)>();
        let open = guests.iter().filter(|guest| !closed(guest)).count();
        assert_eq!(open, 3, "nine of twelve files are in use");
        assert_eq!(guests.last().unwrap().authenticate(), Err(Full));
    }
}
