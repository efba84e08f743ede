//! The statuses of orders and bookings, and which status may follow which.

use serde::Serialize;

/// The kind of the rows in a source: orders or bookings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// The rows are orders.
    Order,
    /// The rows are bookings.
    Booking,
}

impl SubjectKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Order, Self::Booking];

    /// The name of the kind in the database, in mappings and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Booking => "booking",
        }
    }

    /// The kind with this name. `None`: no kind has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The status of an order or booking. All shops share these statuses, and a mapping translates each shop's own status
/// words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The order is new, and nobody has answered it.
    Pending,
    /// The store accepted the order and prepares it. For a booking: the store confirmed it.
    Preparing,
    /// The order is ready to be handed over.
    Ready,
    /// The order is on its way to the customer. Only deliveries have this status.
    Delivering,
    /// The order was handed over to the customer, or the booking has taken place.
    Completed,
    /// The store rejected the order or booking.
    Rejected,
    /// The customer cancelled the order or booking.
    Cancelled,
}

impl Status {
    /// All statuses, in the order in which an order usually passes through them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Preparing,
        Self::Ready,
        Self::Delivering,
        Self::Completed,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// The name of the status in the protocol and in mappings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Delivering => "delivering",
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status with this name. `None`: no status has this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether an order or booking with this status still needs work.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Preparing | Self::Ready | Self::Delivering)
    }

    /// The statuses that a person may choose next, the usual one first. `words` are the statuses that the shop's table
    /// can store. If the table cannot store one of the next statuses, the list has the status after that one instead.
    /// If the table can store `Cancelled` but not `Rejected`, the list still has `Rejected`.
    pub fn next_of(self, kind: SubjectKind, delivered: bool, words: StatusSet) -> Vec<Self> {
        let mut next = Vec::new();
        for step in self.next(kind, delivered) {
            let mut to = Some(*step);
            while let Some(status) = to.filter(|status| !words.can_become(*status)) {
                to = status.next(kind, delivered).first().copied();
            }
            next.extend(to.filter(|to| !next.contains(to)));
        }
        next
    }

    /// The statuses that a person may choose next if the shop uses all statuses, the usual one first. `delivered`: the
    /// order is a delivery.
    pub fn next(self, kind: SubjectKind, delivered: bool) -> &'static [Self] {
        match (self, kind) {
            (Self::Pending, _) => &[Self::Preparing, Self::Rejected],
            (Self::Preparing, SubjectKind::Order) => &[Self::Ready, Self::Rejected],
            (Self::Preparing, SubjectKind::Booking) => &[Self::Completed, Self::Rejected],
            (Self::Ready, SubjectKind::Order) if delivered => &[Self::Delivering],
            (Self::Ready, _) | (Self::Delivering, _) => &[Self::Completed],
            (Self::Completed | Self::Rejected | Self::Cancelled, _) => &[],
        }
    }

    /// Whether a person may change an order from this status back to its `previous` status, to correct a mistake. A
    /// customer's cancellation cannot be undone.
    pub fn can_return_to(self, previous: Self, kind: SubjectKind, words: StatusSet) -> bool {
        [false, true]
            .iter()
            .any(|delivered| previous.next_of(kind, *delivered, words).contains(&self))
    }
}

/// The set of statuses that a shop's table can store, because the mapping has a status word of the shop for each of
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSet(u8);

impl StatusSet {
    /// All statuses.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether the shop has a status word for this status.
    pub fn contains(self, status: Status) -> bool {
        self.0 & (1 << status as u8) != 0
    }

    /// Whether a person can give an order the status `status`. The mapping must have a status word for this status. For
    /// `Rejected`, a status word for `Cancelled` is enough.
    fn can_become(self, status: Status) -> bool {
        self.contains(status) || status == Status::Rejected && self.contains(Status::Cancelled)
    }
}

impl FromIterator<Status> for StatusSet {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        Self(statuses.into_iter().fold(0, |set, status| set | 1 << status as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_delivered_is_on_its_way() {
        assert_eq!(Status::Ready.next(SubjectKind::Order, true), [Status::Delivering]);
        assert_eq!(Status::Ready.next(SubjectKind::Order, false), [Status::Completed]);
        let of_bookings = |from: &Status| from.next(SubjectKind::Booking, true).contains(&Status::Delivering);
        assert!(!Status::ALL.iter().any(of_bookings));
    }

    #[test]
    fn what_is_over_goes_on_to_nothing() {
        for over in [Status::Completed, Status::Rejected, Status::Cancelled] {
            assert!(over.next(SubjectKind::Order, true).is_empty() && !over.is_open());
        }
    }

    #[test]
    fn a_step_can_be_taken_back_to_where_it_came_from_and_nowhere_else() {
        let order = SubjectKind::Order;
        for (now, before) in [
            (Status::Preparing, Status::Pending),
            (Status::Ready, Status::Preparing),
            (Status::Rejected, Status::Pending),
            (Status::Rejected, Status::Preparing),
            (Status::Completed, Status::Ready),
            (Status::Completed, Status::Delivering),
            (Status::Delivering, Status::Ready),
        ] {
            assert!(
                now.can_return_to(before, order, StatusSet::ALL),
                "{now:?} to {before:?}"
            );
        }
        assert!(!Status::Ready.can_return_to(Status::Pending, order, StatusSet::ALL));
        assert!(!Status::Cancelled.can_return_to(Status::Pending, order, StatusSet::ALL));
        assert!(Status::Completed.can_return_to(Status::Preparing, SubjectKind::Booking, StatusSet::ALL));
    }

    #[test]
    fn a_step_that_a_shop_has_no_word_for_is_skipped() {
        let words = |words: &[Status]| words.iter().copied().collect::<StatusSet>();
        let next = |from: Status, known: &[Status]| from.next_of(SubjectKind::Order, true, words(known));
        let few = [Status::Pending, Status::Preparing, Status::Completed, Status::Cancelled];
        assert_eq!(
            next(Status::Pending, &few),
            [Status::Preparing, Status::Rejected],
            "rejected is possible, written as cancelled"
        );
        assert_eq!(next(Status::Preparing, &few), [Status::Completed, Status::Rejected]);
        assert_eq!(
            next(Status::Pending, &[Status::Pending, Status::Completed]),
            [Status::Completed]
        );
        assert_eq!(next(Status::Ready, &[Status::Pending, Status::Ready]), []);
        assert!(Status::Completed.can_return_to(Status::Preparing, SubjectKind::Order, words(&few)));
    }
}
