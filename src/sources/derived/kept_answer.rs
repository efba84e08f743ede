//! The reason and the promised minutes of a person's answer to an order of a derived source. Many shops have no place
//! for them, so Vestnik keeps them in the order's values, as long as they hold. A value that the mapping's own
//! expression gives counts first.

use serde::{Deserialize, Serialize};

use super::super::json::{Json, member};
use super::{UNREADABLE_STATUS, has_projection, projection};
use crate::domain::event::SourceId;
use crate::domain::status::Status;
use crate::infra::db::GenericClient;

/// The name of the member of an order's values that has the kept answer.
const MEMBER: &str = "vst_answer";
/// An SQL expression that leaves only the kept answer of an order's values. The values are in the column `data`.
pub(super) const ONLY_ANSWER: &str =
    "case when data -> 'vst_answer' is null then '{}' else json_build_object('vst_answer', data -> 'vst_answer') end";

/// A person's answer to the order of one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pressed<'a> {
    /// The id of the store. The other stores of the same order keep their answers.
    pub store: &'a str,
    /// The status that the person set.
    pub to: Status,
    /// The promised minutes. `None`: the person promised nothing, so an earlier promise holds.
    pub minutes: Option<i32>,
    pub reason: Option<&'a str>,
}

/// What Vestnik keeps of the newest answer to an order.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptAnswer {
    /// The status that the person set, to which the reason belongs.
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    minutes: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Deletes what is kept of the answer to an order, besides its status, if the source is no longer derived. The reason may
/// name the customer. Returns the number of changed rows.
pub async fn forget_kept_answer(
    client: &impl GenericClient,
    source: SourceId,
    key: &str,
) -> Result<u64, tokio_postgres::Error> {
    if !has_projection(client, source).await? {
        return Ok(0);
    }
    let table = projection(source);
    let forget = format!("update {table} set data = '{{}}' where key = $1 and data::text <> '{{}}'");
    client.execute(&forget, &[&key]).await
}

/// Whether an answer with the status `answer` still holds. The person gave it while the shop's status was `over`, and
/// now the shop's status is `now`. If `over` is no status, nobody could read the shop's status when the person answered,
/// or the mapping had no meaning for it. Then the answer holds unless the shop is further than the answer.
pub(super) fn holds(answer: &str, over: &str, now: &str) -> bool {
    if over == now {
        return true;
    }
    let meaning = match Status::from_name(now) {
        // A readable word without a meaning rings, as a pending order does.
        None if over == UNREADABLE_STATUS => Some(Status::Pending),
        meaning => meaning,
    };
    Status::from_name(over).is_none()
        && meaning
            .zip(Status::from_name(answer))
            .is_some_and(|(now, answer)| is_before(now, answer))
}

/// Whether an order usually passes through the status `one` on its way to the status `other`.
fn is_before(one: Status, other: Status) -> bool {
    match other {
        Status::Rejected | Status::Cancelled => one == Status::Pending,
        _ => one < other,
    }
}

impl KeptAnswer {
    /// The answer that holds now. `before` has the order's last published values as a JSON object. `shown` is the
    /// order's status now. `pressed` is the answer that a person gives now; `None`: the order is computed for another
    /// reason.
    pub fn now(before: Option<&str>, shown: &str, pressed: Option<Pressed<'_>>) -> Self {
        let mut kept = before.and_then(Self::read).unwrap_or_default();
        if let Some(pressed) = pressed {
            kept.minutes = pressed.minutes.or(kept.minutes);
            // A new promise for an order in preparation changes no status, so it keeps the reason.
            if pressed.reason.is_some() || kept.status != pressed.to.as_str() {
                kept.reason = pressed.reason.filter(|reason| !reason.is_empty()).map(str::to_owned);
            }
            kept.status = pressed.to.as_str().to_owned();
        }
        // An order that waits for an answer again has none. A shop may call a rejected order cancelled.
        if shown == Status::Pending.as_str() {
            return Self::default();
        }
        let is_closed_by_it = kept.status == Status::Rejected.as_str() && shown == Status::Cancelled.as_str();
        if kept.status != shown && !is_closed_by_it {
            kept.reason = None;
        }
        kept
    }

    fn read(data: &str) -> Option<Self> {
        let Json::Object(members) = Json::read(data) else {
            return None;
        };
        serde_json::from_str(member(&members, MEMBER)?).ok()
    }

    /// The order's values `data`, a JSON object, without the answer that [`Self::laid_over`] has added to them. `None`:
    /// they have none.
    pub fn taken_off(data: &str) -> Option<String> {
        let kept = Self::read(data)?;
        let Json::Object(members) = Json::read(data) else {
            return None;
        };
        let minutes = kept.minutes.map(|minutes| minutes.to_string());
        let reason = kept.reason.map(|reason| serde_json::Value::from(reason).to_string());
        let is_laid = |name: &str, value: &str| match name {
            MEMBER => true,
            "minutes" => minutes.as_deref() == Some(value),
            "reason" => reason.as_deref() == Some(value),
            _ => false,
        };
        let own = members.iter().filter(|(name, value)| !is_laid(name, value));
        Some(object(own.map(|(name, value)| (name.as_str(), *value))))
    }

    /// The order's values `data`, a JSON object, with this answer. The result has the same spacing as
    /// `json_build_object` of Postgres. `None`: nothing of the answer is kept.
    pub fn laid_over(&self, data: &str) -> Option<String> {
        if self.minutes.is_none() && self.reason.is_none() {
            return None;
        }
        let Json::Object(members) = Json::read(data) else {
            return None;
        };
        let minutes = self.minutes.map(|minutes| minutes.to_string());
        let reason = self
            .reason
            .as_deref()
            .map(|reason| serde_json::Value::from(reason).to_string());
        let kept = [
            ("minutes", minutes),
            ("reason", reason),
            (MEMBER, serde_json::to_string(self).ok()),
        ];
        let is_null = |value: &str| Json::read(value) == Json::Null;
        let stays = |name: &str| member(&members, name).is_some_and(|value| !is_null(value));
        let laid: Vec<(&str, &str)> = kept
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
            .filter(|(name, _)| !stays(name))
            .collect();
        let own = members
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .filter(|(name, _)| !laid.iter().any(|(laid, _)| laid == name));
        Some(object(own.chain(laid.iter().copied())))
    }
}

/// A JSON object with these members, with the spacing of Postgres' `json_build_object`.
fn object<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let texts: Vec<String> = members
        .map(|(name, value)| format!("{} : {value}", serde_json::Value::from(name)))
        .collect();
    format!("{{{}}}", texts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(to: Status, minutes: Option<i32>, reason: Option<&str>) -> Option<Pressed<'_>> {
        Some(Pressed {
            store: "1",
            to,
            minutes,
            reason,
        })
    }

    #[test]
    fn a_value_of_the_shop_counts_before_the_kept_one_and_all_other_values_stay_as_they_are() {
        let accepted = KeptAnswer::now(None, "preparing", pressed(Status::Preparing, Some(25), None));
        assert_eq!(
            accepted.laid_over(r#"{"total" : 19.00, "minutes" : null}"#).unwrap(),
            r#"{"total" : 19.00, "minutes" : 25, "vst_answer" : {"status":"preparing","minutes":25}}"#
        );
        assert_eq!(
            accepted.laid_over(r#"{"minutes" : 15}"#).unwrap(),
            r#"{"minutes" : 15, "vst_answer" : {"status":"preparing","minutes":25}}"#
        );
        let laid = accepted.laid_over("{}").unwrap();
        assert_eq!(KeptAnswer::now(Some(&laid), "preparing", None), accepted);
        let none = KeptAnswer::now(None, "preparing", pressed(Status::Preparing, None, None));
        assert_eq!(none.laid_over("{}"), None);
        for (laid, own) in [
            (r#"{"total" : 19.00}"#, r#"{"total" : 19.00}"#),
            (r#"{"minutes" : 15}"#, r#"{"minutes" : 15}"#),
        ] {
            let laid = accepted.laid_over(laid).unwrap();
            assert_eq!(KeptAnswer::taken_off(&laid).as_deref(), Some(own));
            assert_eq!(accepted.laid_over(own), Some(laid));
        }
        assert_eq!(KeptAnswer::taken_off(r#"{"minutes" : 15}"#), None);
    }

    #[test]
    fn an_answer_over_a_status_without_a_meaning_holds_until_the_shop_is_further() {
        for (answer, over, now, is_kept) in [
            ("preparing", "pending", "pending", true),
            ("preparing", "pending", "Foo", false),
            ("ready", "pending", "preparing", false),
            ("preparing", "?", "pending", true),
            ("preparing", "?", "Foo", true),
            ("preparing", "Foo", "Bar", false),
            ("rejected", "Foo", "pending", true),
            ("rejected", "?", "preparing", false),
            ("ready", "?", "preparing", true),
            ("preparing", "?", "ready", false),
            ("preparing", "?", "cancelled", false),
            ("completed", "?", "cancelled", false),
        ] {
            assert_eq!(holds(answer, over, now), is_kept, "{answer} over {over}, now {now}");
        }
    }

    #[test]
    fn a_promise_holds_until_the_order_waits_again_and_a_reason_as_long_as_its_status() {
        let accepted = KeptAnswer::now(
            None,
            "preparing",
            pressed(Status::Preparing, Some(25), Some("at \"once\"")),
        );
        let laid = accepted.laid_over("{}").unwrap();
        let ready = KeptAnswer::now(Some(&laid), "ready", pressed(Status::Ready, None, None));
        assert_eq!((ready.minutes, &ready.reason), (Some(25), &None));
        let shop = KeptAnswer::now(Some(&laid), "completed", None);
        assert_eq!((shop.minutes, &shop.reason), (Some(25), &None));
        assert_eq!(KeptAnswer::now(Some(&laid), "pending", None), KeptAnswer::default());
        let again = KeptAnswer::now(Some(&laid), "preparing", pressed(Status::Preparing, Some(40), None));
        assert_eq!((again.minutes, again.reason), (Some(40), accepted.reason));
        let rejected = KeptAnswer::now(None, "rejected", pressed(Status::Rejected, None, Some("oven")));
        let laid = rejected.laid_over("{}").unwrap();
        assert_eq!(KeptAnswer::now(Some(&laid), "cancelled", None), rejected);
    }
}
