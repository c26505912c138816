//! One attempt outside every queue, to see whether a sink takes anything: the same outlet and the same judge as for real events.

use std::io;

use super::{Judgement, Verdict, Way, judge::Words, judge::judge, printer};
use crate::store::{Delivery, Form, Parcel};

/// Sends or prints `delivery` once, whatever the sink's filter, rate and queue say.
pub async fn attempt(way: &Way, delivery: &Delivery) -> Judgement {
    match way {
        Way::Send(sending) => {
            let mut parcel = Parcel::from(delivery.clone());
            let mut answer = sending.outlet.send(&parcel).await;
            let judged = judge(&answer);
            if judged.verdict == Verdict::Refused && sending.outlet.can_be_plainer(&parcel, &answer) {
                // As a real one would: plainer, and no sooner than the receiver wants another message.
                tokio::time::sleep(sending.rate.interval()).await;
                parcel.seal(Form::Plain);
                answer = sending.outlet.send(&parcel).await;
                return judge(&answer);
            }
            judged
        }
        Way::Print(printing) => {
            let printed = printing.press.print(vec![printer::line(delivery, printing)]).await;
            let (verdict, what) = match printed.error {
                None if printed.whole > 0 => (Verdict::Accepted, "printed".into()),
                error => {
                    let error = error.unwrap_or(io::ErrorKind::WriteZero);
                    (Verdict::Retry { after: None }, error.to_string())
                }
            };
            Judgement { verdict, answer: Words { what, detail: None } }
        }
    }
}
