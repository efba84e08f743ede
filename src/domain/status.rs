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

    /// From the name.
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

    /// From the name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether somebody still has to do something for it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Preparing | Self::Ready | Self::Delivering)
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
    pub fn can_return_to(self, previous: Self, kind: SubjectKind) -> bool {
        let is_step = Self::ALL.iter().any(|from| {
            *from == previous && [false, true].iter().any(|delivered| from.next(kind, *delivered).contains(&self))
        });
        is_step && self != Self::Cancelled
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
            assert!(now.can_return_to(before, order), "{now:?} to {before:?}");
        }
        assert!(!Status::Ready.can_return_to(Status::Pending, order));
        assert!(!Status::Cancelled.can_return_to(Status::Pending, order));
        assert!(Status::Completed.can_return_to(Status::Preparing, SubjectKind::Booking));
    }
}
