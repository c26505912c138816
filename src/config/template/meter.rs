//! The calls that weigh what a template makes and works through, and pay for it with fuel. Pure.
//!
//! A value weighs what it comes to when it is written out: a list that another one holds twice weighs twice. So nothing that nobody
//! could write is ever made, and whatever the engine does with a value is paid for, in one currency.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::{
    Environment, Error, ErrorKind, State, Value,
    value::{Object, ObjectRepr, Tuple, ValueKind},
};

use super::{Json, NESTED};

/// One fuel pays for so many, as in the engine: a byte weighs one.
const FUEL: u64 = 64;

/// A place in a list; in a map each entry has two.
const SLOT: u64 = 32;

/// What has no length.
const PLAIN: u64 = 8;

/// The most that one value which a template makes may weigh. A body has a quarter of it at most.
const HEAVIEST: u64 = 1 << 20;

// Calls that no template can spell.
/// Weighs a value that was just made.
pub(super) const MADE: &str = "=made";
/// Pays for all of a value.
pub(super) const WHOLE: &str = "=whole";
/// Pays for a value that something is looked for in; a map finds it at once.
pub(super) const SEARCHED: &str = "=searched";
/// Pays for a text, whose characters must be counted, and for nothing else.
pub(super) const TEXT: &str = "=text";
/// `value[start:stop:step]`.
pub(super) const SLICE: &str = "=slice";

macro_rules! named {
    ($mark:literal: $($name:literal)*) => { [$(($name, concat!($mark, $name))),*] };
}

/// The filters there are, each with the call that stands for it.
pub(super) const FILTERS: [(&str, &str); 49] = named!("|":
    "abs" "attr" "batch" "bool" "capitalize" "chain" "count" "d" "default" "dictsort" "e" "escape" "first" "float" "format" "groupby"
    "indent" "int" "items" "join" "last" "length" "lines" "list" "lower" "map" "max" "min" "reject" "rejectattr" "replace" "reverse"
    "round" "safe" "select" "selectattr" "slice" "sort" "split" "string" "sum" "title" "tojson" "trim" "truncate" "unique" "upper"
    "urlencode" "zip");

/// The tests that can be spelled, likewise.
pub(super) const TESTS: [(&str, &str); 36] = named!("is ":
    "boolean" "defined" "divisibleby" "endingwith" "eq" "equalto" "escaped" "even" "false" "filter" "float" "ge"
    "greaterthan" "gt" "in" "int" "integer" "iterable" "le" "lessthan" "lower" "lt" "mapping" "ne" "none" "number" "odd" "safe" "sameas" "sequence"
    "startingwith" "string" "test" "true" "undefined" "upper");

/// Adds the calls to what templates find by name.
pub(super) fn install(environment: &mut Environment<'static>) {
    for (name, call) in FILTERS {
        environment.add_global(call, Value::from_object(Filter(name)));
    }
    for (name, call) in TESTS {
        environment.add_global(call, Value::from_object(Test(name)));
    }
    for call in [MADE, WHOLE, SEARCHED, TEXT, SLICE] {
        environment.add_global(call, Value::from_object(Measure(call)));
    }
}

#[derive(Debug)]
struct Measure(&'static str);

impl Object for Measure {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, values: &[Value]) -> Result<Value, Error> {
        let mut scale = Scale::new(state, u64::MAX);
        match (self.0, values) {
            (SLICE, [value, parts @ ..]) => {
                let cut = slice(&mut scale, value, parts)?;
                made(state, cut)
            }
            (MADE, [value]) => made(state, value.clone()),
            (WHOLE, [value]) => scale.pay_for(value).map(|()| value.clone()),
            (SEARCHED, [value]) if value.kind() != ValueKind::Map => scale.pay_for(value).map(|()| value.clone()),
            (TEXT, [value]) if value.as_str().is_some() => scale.pay_for(value).map(|()| value.clone()),
            (_, [value, ..]) => Ok(value.clone()),
            (_, []) => Ok(Value::UNDEFINED),
        }
    }
}

#[derive(Debug)]
struct Filter(&'static str);

impl Object for Filter {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, values: &[Value]) -> Result<Value, Error> {
        let mut scale = Scale::new(state, u64::MAX);
        let mut weights = vec![];
        for value in values {
            weights.push(scale.weigh(value, 0)?);
        }
        let first = weights.first().copied().unwrap_or(0);
        let rest: u64 = weights.iter().skip(1).sum();
        let each = first.saturating_mul(rest) / FUEL;
        scale.add(match self.0 {
            // Each place in the text can ask for all of a value.
            "format" => first.saturating_mul(rest),
            // What is added up so far is copied for each item.
            "sum" => (first.saturating_mul(first) / (FUEL * SLOT)).saturating_add(each),
            // A character can become an item.
            "split" | "lines" => first.saturating_mul(8).saturating_add(each),
            // Others look for the rest in each item or at each character.
            _ => each,
        })?;
        scale.pay()?;
        let value = state.apply_filter(self.0, values)?;
        made(state, value)
    }
}

#[derive(Debug)]
struct Test(&'static str);

impl Object for Test {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, values: &[Value]) -> Result<Value, Error> {
        let mut scale = Scale::new(state, u64::MAX);
        for (index, value) in values.iter().enumerate() {
            // Whether there is something, and what it is, is known without looking through it.
            if index > 0 || value.as_str().is_some() {
                scale.weigh(value, 0)?;
            }
        }
        scale.pay()?;
        state.perform_test(self.0, values).map(Value::from)
    }
}

/// `value`, which a template made: weighed, and with nothing in it that is worked out only when it is asked for, since that would be done
/// again each time.
fn made(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    let mut scale = Scale::new(state, HEAVIEST);
    let settled = scale.settle(&value, 0)?;
    scale.pay()?;
    Ok(settled.unwrap_or(value))
}

/// Weighs, and pays as it goes, so that it ends where the fuel does.
struct Scale<'s, 't, 'e> {
    state: &'s State<'t, 'e>,
    most: u64,
    weighed: u64,
    unpaid: u64,
}

impl<'s, 't, 'e> Scale<'s, 't, 'e> {
    fn new(state: &'s State<'t, 'e>, most: u64) -> Self {
        Self { state, most, weighed: 0, unpaid: 0 }
    }

    fn add(&mut self, weight: u64) -> Result<(), Error> {
        self.weighed = self.weighed.saturating_add(weight);
        self.unpaid = self.unpaid.saturating_add(weight);
        if self.weighed > self.most {
            let what = format!("a value is larger than {} KiB", self.most / 1024);
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        }
        if self.unpaid > FUEL * FUEL { self.pay() } else { Ok(()) }
    }

    fn pay(&mut self) -> Result<(), Error> {
        let fuel = self.unpaid / FUEL;
        self.unpaid %= FUEL;
        self.state.consume_fuel(fuel)
    }

    fn pay_for(&mut self, value: &Value) -> Result<(), Error> {
        self.weigh(value, 0)?;
        self.pay()
    }

    /// What `value` weighs.
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<u64, Error> {
        let before = self.weighed;
        match self.opened(value, depth)? {
            None => {}
            Some(ValueKind::Map) => {
                for key in value.try_iter()? {
                    self.add(2 * SLOT)?;
                    self.weigh(&key, depth + 1)?;
                    if let Ok(item) = value.get_item(&key) {
                        self.weigh(&item, depth + 1)?;
                    }
                }
            }
            Some(_) => {
                for item in value.try_iter()? {
                    self.add(SLOT)?;
                    self.weigh(&item, depth + 1)?;
                }
            }
        }
        Ok(self.weighed - before)
    }

    /// Weighs `value` and gives it back where it had to be put together anew.
    fn settle(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        match self.opened(value, depth)? {
            None => Ok(None),
            Some(ValueKind::Map) => {
                let native = value.downcast_object_ref::<BTreeMap<Value, Value>>();
                let mut changed = native.is_none();
                let mut settled = BTreeMap::new();
                for key in value.try_iter()? {
                    self.add(2 * SLOT)?;
                    self.weigh(&key, depth + 1)?;
                    let item = value.get_item(&key)?;
                    let anew = self.settle(&item, depth + 1)?;
                    changed |= anew.is_some();
                    settled.insert(key, anew.unwrap_or(item));
                }
                Ok(changed.then(|| Value::from_object(settled)))
            }
            Some(_) => {
                let mut changed = value.downcast_object_ref::<Vec<Value>>().is_none() && !value.is_tuple();
                let mut settled = vec![];
                for item in value.try_iter()? {
                    self.add(SLOT)?;
                    let anew = self.settle(&item, depth + 1)?;
                    changed |= anew.is_some();
                    settled.push(anew.unwrap_or(item));
                }
                Ok(changed.then(|| {
                    if value.is_tuple() { Value::from(Tuple::from(settled)) } else { Value::from_object(settled) }
                }))
            }
        }
    }

    /// Weighs what holds no values, and says what a value is that does.
    fn opened(&mut self, value: &Value, depth: usize) -> Result<Option<ValueKind>, Error> {
        if depth > NESTED {
            return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply"));
        }
        if let Some(text) = value.as_str() {
            self.add(text.len() as u64)?;
            return Ok(None);
        }
        let weight = value.downcast_object_ref::<Json>().map_or(PLAIN, |Json(text)| text.len() as u64);
        self.add(weight)?;
        let kind = value.kind();
        Ok(Some(kind).filter(|kind| matches!(kind, ValueKind::Map | ValueKind::Seq | ValueKind::Iterable)))
    }
}

/// As in Python.
fn slice(scale: &mut Scale<'_, '_, '_>, value: &Value, parts: &[Value]) -> Result<Value, Error> {
    let number = |value: &Value| if value.is_none() { Ok(None) } else { i64::try_from(value.clone()).map(Some) };
    let [from, to, step] = parts else { return Err(Error::from(ErrorKind::MissingArgument)) };
    let (from, to, step) = (number(from)?, number(to)?, number(step)?.unwrap_or(1));
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "cannot slice by step size of 0"));
    }
    let mut items = vec![];
    let length = match (value.as_str(), value.kind()) {
        (Some(text), _) => {
            // Its characters are counted, and may be taken apart.
            scale.add(text.len() as u64)?;
            text.chars().count()
        }
        (None, ValueKind::None | ValueKind::Undefined) => 0,
        (None, ValueKind::Seq | ValueKind::Iterable) => {
            for item in value.try_iter()? {
                scale.add(SLOT)?;
                items.push(item);
            }
            items.len()
        }
        (None, kind) => {
            let what = format!("value of type {kind} cannot be sliced");
            return Err(Error::new(ErrorKind::InvalidOperation, what));
        }
    };
    scale.pay()?;
    let picked = picked(length, from, to, step);
    Ok(match value.as_str() {
        Some(text) if step == 1 => {
            let first = picked.clone().next().unwrap_or(0);
            text.chars().skip(first).take(picked.count()).collect::<String>().into()
        }
        Some(text) => {
            let characters: Vec<char> = text.chars().collect();
            picked.map(|index| characters[index]).collect::<String>().into()
        }
        None => picked.map(|index| items[index].clone()).collect(),
    })
}

/// The places that a slice of something so long takes.
fn picked(length: usize, from: Option<i64>, to: Option<i64>, step: i64) -> impl Iterator<Item = usize> + Clone {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let ahead = step > 0;
    let (low, high) = if ahead { (0, length) } else { (-1, length - 1) };
    let clamp = |index: i64| if index < 0 { (index + length).max(low) } else { index.min(high) };
    let first = from.map_or(if ahead { low } else { high }, clamp);
    let end = to.map_or(if ahead { high } else { low }, clamp);
    let distance = if ahead { end - first } else { first - end };
    let count = if distance > 0 { (distance.unsigned_abs() - 1) / step.unsigned_abs() + 1 } else { 0 };
    // No step is longer than what is sliced, where there are two places.
    (0..count).map_while(move |place| {
        let index = i64::try_from(place).ok()?.checked_mul(step)?.checked_add(first)?;
        usize::try_from(index).ok()
    })
}
