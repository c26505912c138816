//! Events and deliveries to try things with.

use crate::{
    event::{Event, EventId, Kind},
    store::{Delivery, DeliveryId},
    velt::model::StepStatus,
};

/// `human-legal` of `execution` waits; `sequence` makes events differ.
pub(crate) fn event(execution: &str, sequence: u64) -> Event {
    let kind = Kind::Step(StepStatus::Waiting);
    let entry = u32::try_from(sequence).unwrap();
    let id = EventId::new(&execution.parse().unwrap(), Some("step_1"), &kind, entry);
    serde_json::from_str(&format!(
        r#"{{"id":"{id}","type":"{kind}","timestamp":"2026-11-23T16:04:06.115Z","data":{{
            "executionId":"{execution}","definitionId":"marketing","definitionVersion":1,"correlationId":null,"label":null,
            "sequence":{sequence},"from":"running","to":"waiting",
            "step":{{"stepId":"step_1","nodeId":"human-legal","nodeType":"human","groupId":null,
                "startedAt":"2026-11-23T16:04:00Z","completedAt":null,"decision":null,"error":null}},
            "execution":{{"status":"running","startedAt":"2026-11-23T16:00:00Z","completedAt":null,"cancelledAt":null,
                "failureReason":null,"steps":{{"total":1,"waiting":1}}}},
            "observedAt":"2026-11-23T16:04:06.115Z","previousObservedAt":null,"initial":false,"final":false}}}}"#
    ))
    .unwrap()
}

pub(crate) fn delivery(id: i64, execution: &str, sequence: u64) -> Delivery {
    let event = event(execution, sequence);
    Delivery {
        id: DeliveryId(id),
        execution: execution.parse().unwrap(),
        json: event.to_json().into(),
        event_id: event.id,
        output: None,
        push: None,
        attempts: 0,
        enqueued_at: event.timestamp,
        due_at: event.timestamp,
    }
}
