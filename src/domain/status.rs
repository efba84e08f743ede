//! The statuses of orders and bookings, and what a person of the store may make of each.

use serde::Serialize;

/// What the rows of a source are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// Orders.
    Order,
    /// Bookings.
    Booking,
}

impl SubjectKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Order, Self::Booking];

    /// The name in the database, in mappings and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Booking => "booking",
        }
    }

    /// The one that has this name; `None`: none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A canonical status. Shops have words of their own for each; a mapping says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// New: nobody has answered.
    Pending,
    /// Accepted.
    Preparing,
    /// Ready to be handed over.
    Ready,
    /// On its way; deliveries only.
    Delivering,
    /// Over, well.
    Completed,
    /// Refused by the store.
    Rejected,
    /// Taken back by the customer.
    Cancelled,
}

impl Status {
    /// All of them, in the order of an order's life.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Preparing,
        Self::Ready,
        Self::Delivering,
        Self::Completed,
        Self::Rejected,
        Self::Cancelled,
    ];

    /// The name on the wire and in mappings.
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

    /// The one that has this name; `None`: none has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether somebody still has to do something for it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Preparing | Self::Ready | Self::Delivering)
    }

    /// What a person of the store may make of it in a shop that has words for some statuses only. A step that the shop has no
    /// word for is skipped; a rejection is written as a cancellation where the shop has no other word.
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

    /// What a person of the store may make of it, the usual first. `delivered`: the order goes to its customer.
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

    /// Whether a person may take the step from `previous` back: what was pressed by mistake. A cancellation is the
    /// customer's, and nobody takes it back.
    pub fn can_return_to(self, previous: Self, kind: SubjectKind, words: StatusSet) -> bool {
        [false, true]
            .iter()
            .any(|delivered| previous.next_of(kind, *delivered, words).contains(&self))
    }
}

/// Statuses that a shop has words for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSet(u8);

impl StatusSet {
    /// All of them.
    pub const ALL: Self = Self(u8::MAX);

    /// Whether it has a word for this one.
    pub fn contains(self, status: Status) -> bool {
        self.0 & (1 << status as u8) != 0
    }

    /// Whether an order can be brought there.
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
            "refused as cancelled"
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
