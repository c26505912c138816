//! An event as Velt's own push has it, for a receiver that was written for that. Pure.
//!
//! What was stored beside the event goes out as it was. An event that was committed while nobody asked for it is made from what it says
//! itself: that is less exact, and better than nothing.

use std::collections::BTreeMap;

use serde_json::{Value, value::to_raw_value};

use crate::{
    config::Fault,
    event::{Event, Kind},
    store::Delivery,
    velt::{
        model::StepStatus,
        push::{Push, thin},
    },
};

/// What is sent for `delivery`; `whole` with all that it came with.
pub(super) fn push(delivery: &Delivery, whole: bool) -> Result<Push, Fault> {
    let stored = delivery.push.as_deref().and_then(|push| serde_json::from_str::<Push>(push).ok());
    match stored {
        Some(push) if whole => Ok(push),
        Some(push) => Ok(push.thin()),
        None => of_event(delivery),
    }
}

fn of_event(delivery: &Delivery) -> Result<Push, Fault> {
    let fault = |what: &str| Fault { what: what.into(), at: None, hint: None };
    let event: Event = serde_json::from_str(&delivery.json).map_err(|_| fault("the event can't be read back"))?;
    let Some(engine) = event.data.engine else {
        return Err(fault("it is no event of the engine's stream"));
    };
    let kind = match &event.kind {
        Kind::Step(StepStatus::Waiting) => "step.awaiting-approval".to_owned(),
        kind => kind.to_string(),
    };
    let mut data: BTreeMap<Box<str>, Value> = engine.facts;
    let step = event.data.step;
    if let Some(step) = &step {
        let error = step.error.as_ref().and_then(|error| serde_json::to_value(error).ok());
        let decision = step.decision.as_deref().map(Value::from);
        data.extend(error.map(|error| ("error".into(), error)));
        data.extend(decision.map(|decision| ("decision".into(), decision)));
    }
    let data = to_raw_value(&data).ok();
    Ok(Push {
        execution_id: event.data.execution_id,
        event_id: engine.event_id,
        seq: engine.seq,
        data: thin(&kind, data.as_deref()),
        kind: kind.into(),
        step_id: step.map(|step| step.step_id),
        timestamp: event.timestamp.as_millis(),
        correlation_id: event.data.correlation_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::tests::fixture;

    const STORED: &str = r#"{"executionId":"exec_1","eventId":"evt_1_a","seq":4,"type":"step.awaiting-approval","stepId":"s","timestamp":1777374841756,"correlationId":"c","data":{"waitingForReviewers":["a@example.com"],"mandatoryCount":1,"resumeKey":"k"}}"#;

    fn delivery(engine: &str) -> Delivery {
        let mut delivery = fixture::delivery(1, "exec_1", 1);
        delivery.json = delivery.json.replace(r#""final":false"#, &format!(r#""final":false{engine}"#)).into();
        delivery
    }

    #[test]
    fn what_was_stored_goes_out_thin_unless_all_of_it_is_asked_for() {
        let mut delivery = delivery("");
        delivery.push = Some(STORED.into());
        assert_eq!(push(&delivery, true).unwrap().to_json(), STORED);
        let (before, _) = STORED.split_once(r#","data""#).unwrap();
        assert_eq!(push(&delivery, false).unwrap().to_json(), format!(r#"{before},"data":{{"mandatoryCount":1}}}}"#));
    }

    #[test]
    fn what_was_committed_before_anybody_asked_is_told_from_the_event() {
        let made = |delivery: &Delivery| push(delivery, false).unwrap().to_json();
        let waiting = delivery(r#","engine":{"eventId":"evt_1_a","seq":4}"#);
        assert_eq!(
            made(&waiting),
            r#"{"executionId":"exec_1","eventId":"evt_1_a","seq":4,"type":"step.awaiting-approval","stepId":"step_1","timestamp":1763913846115,"correlationId":null}"#
                .replace("1763913846115", &fixture::event("exec_1", 1).timestamp.as_millis().to_string())
        );
        let mut done = waiting.clone();
        done.json = done
            .json
            .replace("step.waiting", "step.completed")
            .replace(r#""decision":null"#, r#""decision":"reject""#)
            .into();
        assert!(made(&done).ends_with(r#","data":{"decision":"reject"}}"#), "{}", made(&done));
        let mut failed = waiting;
        failed.json = (failed.json.replace("step.waiting", "step.failed"))
            .replace(r#""error":null"#, r#""error":{"code":"C","message":"m"}"#)
            .into();
        assert!(made(&failed).ends_with(r#","data":{"error":{"code":"C","message":"m"}}}"#), "{}", made(&failed));
        let mut fact = delivery(r#","engine":{"eventId":"evt_1_b","seq":5,"groupId":"g","quorum":2}"#);
        fact.json = fact.json.replace("step.waiting", "group.quorum-met").into();
        assert!(made(&fact).ends_with(r#","data":{"groupId":"g","quorum":2}}"#), "{}", made(&fact));
    }

    #[test]
    fn what_is_none_of_the_streams_can_not_be_told() {
        let fault = push(&delivery(""), true).unwrap_err();
        assert_eq!(fault.what, "it is no event of the engine's stream");
    }
}
