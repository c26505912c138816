//! What a template may do, so that whatever it does can be measured. Pure.
//!
//! The engine's fuel pays for instructions and for what they make, but not for all: a list that holds another one twice, and that one
//! another, is small and yet endless to write, compare or sort. So what a template compiles to is changed before it runs: after each
//! instruction that makes a value stands a call that weighs it, before each that works through one stands a call that pays for it, and
//! filters and tests are called through such calls (see `meter.rs`). What can't be measured like this is refused here.

use minijinja::{
    Environment, Error, Value,
    machinery::{
        Instruction, Instructions,
        ast::{BinOpKind, Call, CallArg, CallType, Expr, Spanned, Stmt},
        get_compiled_template, make_string_output, parse,
    },
    syntax::SyntaxConfig,
};

use super::{
    Fault,
    meter::{self, FILTERS, TESTS},
};
use crate::plain::{escape, shorten};

/// Refuses what can't be measured when it runs, or is done before anything runs: the engine works out what is constant as it compiles.
pub(super) fn check(source: &str, name: &str) -> Result<(), Fault> {
    match parse(source, name, SyntaxConfig::default()) {
        Ok(template) => statement(&template),
        // What isn't understood is told where it is compiled.
        Err(_) => Ok(()),
    }
}

/// Whether the engine works an expression out as it compiles, and whether it comes to a list then.
type Known = Option<bool>;

fn statements(all: &[Stmt<'_>]) -> Result<(), Fault> {
    all.iter().try_for_each(statement)
}

fn statement(statement: &Stmt<'_>) -> Result<(), Fault> {
    match statement {
        Stmt::Template(template) => statements(&template.children),
        Stmt::EmitExpr(emit) => expression(&emit.expr).map(drop),
        Stmt::EmitRaw(_) => Ok(()),
        Stmt::ForLoop(each) => {
            expressions([&each.target, &each.iter].into_iter().chain(&each.filter_expr))?;
            statements(&each.body)?;
            statements(&each.else_body)
        }
        Stmt::IfCond(cond) => {
            expression(&cond.expr)?;
            statements(&cond.true_body)?;
            statements(&cond.false_body)
        }
        Stmt::WithBlock(with) => {
            expressions(with.assignments.iter().flat_map(|(target, value)| [target, value]))?;
            statements(&with.body)
        }
        Stmt::Set(set) => expressions([&set.target, &set.expr]),
        Stmt::SetBlock(set) => {
            expressions([&set.target].into_iter().chain(&set.filter))?;
            statements(&set.body)
        }
        Stmt::AutoEscape(block) => {
            expression(&block.enabled)?;
            statements(&block.body)
        }
        Stmt::FilterBlock(block) => {
            expression(&block.filter)?;
            statements(&block.body)
        }
        Stmt::Do(what) => call(&what.call),
    }
}

fn expressions<'a, 's: 'a>(all: impl IntoIterator<Item = &'a Expr<'s>>) -> Result<(), Fault> {
    all.into_iter().try_for_each(|one| expression(one).map(drop))
}

fn expression(expr: &Expr<'_>) -> Result<Known, Fault> {
    let refuse = |what: &str| Err(refused(expr, what));
    match expr {
        Expr::Var(_) => Ok(None),
        Expr::Const(_) => Ok(Some(false)),
        Expr::Slice(slice) => {
            expressions([&slice.expr].into_iter().chain(&slice.start).chain(&slice.stop).chain(&slice.step))?;
            Ok(None)
        }
        Expr::UnaryOp(operation) => Ok(expression(&operation.expr)?.map(|_| false)),
        Expr::BinOp(operation) => {
            let (left, right) = (expression(&operation.left)?, expression(&operation.right)?);
            let Some((left, right)) = left.zip(right) else { return Ok(None) };
            match operation.op {
                BinOpKind::Add | BinOpKind::Mul | BinOpKind::Concat if left || right => {
                    refuse("a list of constants can't be added to, repeated or joined to a text")
                }
                BinOpKind::ScAnd | BinOpKind::ScOr => Ok(Some(left || right)),
                _ => Ok(Some(false)),
            }
        }
        Expr::Compare(compare) => {
            let mut known = expression(&compare.expr)?;
            for operand in &compare.ops {
                known = known.and(expression(&operand.expr)?);
            }
            Ok(known.map(|_| false))
        }
        Expr::IfExpr(choice) => {
            expressions([&choice.test_expr, &choice.true_expr].into_iter().chain(&choice.false_expr))?;
            Ok(None)
        }
        Expr::Filter(filter) => {
            expressions(&filter.expr)?;
            arguments(&filter.args)?;
            match spelled(filter.name, &FILTERS) {
                Some(_) => Ok(None),
                None => refuse(&format!("unknown filter: {}", shorten(&escape(&super::mask(filter.name)), 80))),
            }
        }
        Expr::Test(test) => {
            expression(&test.expr)?;
            arguments(&test.args)?;
            match spelled(test.name, &TESTS) {
                Some(_) => Ok(None),
                None => refuse(&format!("unknown test: {}", shorten(&escape(&super::mask(test.name)), 80))),
            }
        }
        Expr::GetAttr(get) => expression(&get.expr).map(|_| None),
        Expr::GetItem(get) => {
            expressions([&get.expr, &get.subscript_expr])?;
            Ok(None)
        }
        Expr::Call(what) => {
            call(what)?;
            Ok(None)
        }
        Expr::List(list) => items(&list.items),
        Expr::Tuple(tuple) => items(&tuple.items),
        Expr::Map(map) => {
            // Each is compared with the others, at no cost that could be measured.
            match map.keys.iter().find(|key| !matches!(key, Expr::Const(_))) {
                Some(key) => Err(refused(key, "the keys of a `{…}` are texts or numbers that are written out")),
                None => items(&map.values),
            }
        }
    }
}

fn items(items: &[Expr<'_>]) -> Result<Known, Fault> {
    expressions(items)?;
    Ok(items.iter().all(|item| matches!(item, Expr::Const(_))).then_some(true))
}

fn call(what: &Spanned<Call<'_>>) -> Result<(), Fault> {
    let refuse = |text: &str| Err(Fault::new(text.into(), Some(what.span().start_offset as usize)));
    arguments(&what.args)?;
    match what.identify_call() {
        CallType::Function(_) => Ok(()),
        CallType::Method(of, "cycle") => expression(of).map(drop),
        CallType::Method(of, "changed") if what.args.len() == 1 => expression(of).map(drop),
        CallType::Method(_, "changed") => refuse("`loop.changed` takes one value"),
        CallType::Method(_, _) => refuse("nothing here has a method but `loop`: `cycle`, `changed`"),
        CallType::Object(_) => refuse("only what has a name can be called"),
    }
}

fn arguments(all: &[CallArg<'_>]) -> Result<(), Fault> {
    for argument in all {
        match argument {
            CallArg::Pos(value) | CallArg::Kwarg(_, value) => expression(value)?,
            CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                return Err(refused(value, "a call's values are written out one by one, not taken from a list"));
            }
        };
    }
    Ok(())
}

fn refused(expr: &Expr<'_>, what: &str) -> Fault {
    let at = expr.span().start_offset as usize;
    let hint = what.starts_with("unknown").then(|| "docs/templates.md lists what there is".into());
    Fault { what: what.into(), at: Some(at), hint }
}

/// The call that stands for a filter or a test; the engine overlooks white space in their names.
fn spelled(name: &str, among: &[(&str, &'static str)]) -> Option<&'static str> {
    let name: String = name.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    among.iter().find(|(known, _)| *known == name).map(|(_, call)| *call)
}

/// Runs the template called `name`, measured.
pub(super) fn render(environment: &Environment<'_>, name: &str, context: Value) -> Result<String, Error> {
    let template = environment.get_template(name)?;
    let compiled = get_compiled_template(&template);
    let measured = measured(&compiled.instructions);
    let mut text = String::with_capacity(compiled.buffer_size_hint);
    minijinja::machinery::eval(
        environment,
        &measured,
        context,
        &compiled.blocks,
        &mut make_string_output(&mut text),
        compiled.initial_auto_escape.clone(),
    )?;
    Ok(text)
}

/// The same instructions, with what measures them.
fn measured<'e>(of: &Instructions<'e>) -> Instructions<'e> {
    let all: Vec<&Instruction<'e>> = (0..).map_while(|index| of.get(index)).collect();
    let around: Vec<Around<'e>> = all.iter().map(|instruction| around(instruction)).collect();
    // Where each of them begins now, what stands before it included; a jump may lead to the end as well.
    let mut starts = vec![0];
    for around in &around {
        starts.push(starts[starts.len() - 1] + around.length());
    }
    let start = |target: u32| starts.get(target as usize).copied().unwrap_or(target);
    let mut measured = Instructions::new(of.name(), of.source());
    for (index, (instruction, around)) in (0..).zip(all.into_iter().zip(around)) {
        let instruction = match around.instead {
            Some(instead) => instead,
            None => match instruction {
                Instruction::Iterate(target) => Instruction::Iterate(start(*target)),
                Instruction::Jump(target) => Instruction::Jump(start(*target)),
                Instruction::JumpIfFalse(target) => Instruction::JumpIfFalse(start(*target)),
                Instruction::JumpIfFalseOrPop(target) => Instruction::JumpIfFalseOrPop(start(*target)),
                Instruction::JumpIfTrueOrPop(target) => Instruction::JumpIfTrueOrPop(start(*target)),
                other => other.clone(),
            },
        };
        for instruction in around.before.iter().cloned().chain([instruction]).chain(around.after) {
            match (of.get_span(index), of.get_line(index).and_then(|line| u16::try_from(line).ok())) {
                (Some(span), _) => measured.add_with_span(instruction, span),
                (None, Some(line)) => measured.add_with_line(instruction, line),
                (None, None) => measured.add(instruction),
            };
        }
    }
    measured
}

/// What measures one instruction.
#[derive(Default)]
struct Around<'e> {
    before: Vec<Instruction<'e>>,
    instead: Option<Instruction<'e>>,
    after: Option<Instruction<'e>>,
}

impl<'e> Around<'e> {
    fn length(&self) -> u32 {
        u32::try_from(self.before.len() + 1).expect("a few") + u32::from(self.after.is_some())
    }

    fn before(before: impl Into<Vec<Instruction<'e>>>) -> Self {
        Self { before: before.into(), ..Self::default() }
    }

    fn instead(instead: Instruction<'e>) -> Self {
        Self { instead: Some(instead), ..Self::default() }
    }
}

/// A call that takes the value on top and puts it back.
fn weigh<'e>(name: &'static str) -> Instruction<'e> {
    Instruction::CallFunction(name, Some(1))
}

/// Each kind of instruction is named: what a later engine has besides can't be overlooked.
fn around<'e>(instruction: &Instruction<'e>) -> Around<'e> {
    match instruction {
        // What makes a value.
        Instruction::BuildMap(_)
        | Instruction::BuildList(_)
        | Instruction::BuildTuple(_)
        | Instruction::Add
        | Instruction::Mul
        | Instruction::StringConcat
        | Instruction::EndCapture => Around { after: Some(weigh(meter::MADE)), ..Around::default() },
        // What works through the values it is given; of two that are compared, no more than the smaller one.
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::CallMethod(..) => Around::before([weigh(meter::WHOLE)]),
        Instruction::In | Instruction::CompareAndPreserve(_) => {
            Around::before([weigh(meter::SEARCHED), Instruction::Swap, weigh(meter::WHOLE), Instruction::Swap])
        }
        Instruction::GetItem => {
            Around::before([weigh(meter::WHOLE), Instruction::Swap, weigh(meter::TEXT), Instruction::Swap])
        }
        Instruction::PushLoop(_) | Instruction::FastRecurse | Instruction::CallFunction(_, Some(1..)) => {
            Around::before([weigh(meter::TEXT)])
        }
        // What is done by ours.
        Instruction::Slice => Around::instead(Instruction::CallFunction(meter::SLICE, Some(4))),
        Instruction::ApplyFilter(name, values, _) => spelled(name, &FILTERS)
            .map_or_else(Around::default, |call| Around::instead(Instruction::CallFunction(call, *values))),
        Instruction::PerformTest(name, values, _) => spelled(name, &TESTS)
            .map_or_else(Around::default, |call| Around::instead(Instruction::CallFunction(call, *values))),
        // What moves values, works on numbers, or is paid for by the engine.
        Instruction::EmitRaw(_)
        | Instruction::Emit
        | Instruction::StoreLocal(_)
        | Instruction::Lookup(_)
        | Instruction::GetAttr(_)
        | Instruction::SetAttr(_)
        | Instruction::LoadConst(_)
        | Instruction::BuildKwargs(_)
        | Instruction::MergeKwargs(_)
        | Instruction::UnpackList(_)
        | Instruction::UnpackLists(_)
        | Instruction::Sub
        | Instruction::Div
        | Instruction::IntDiv
        | Instruction::Rem
        | Instruction::Pow
        | Instruction::Neg
        | Instruction::Not
        | Instruction::PushWith
        | Instruction::Iterate(_)
        | Instruction::PushDidNotIterate
        | Instruction::PopFrame
        | Instruction::PopLoopFrame
        | Instruction::Jump(_)
        | Instruction::JumpIfFalse(_)
        | Instruction::JumpIfFalseOrPop(_)
        | Instruction::JumpIfTrueOrPop(_)
        | Instruction::PushAutoEscape
        | Instruction::PopAutoEscape
        | Instruction::BeginCapture(_)
        | Instruction::CallFunction(_, _)
        | Instruction::CallObject(_)
        | Instruction::DupTop
        | Instruction::DiscardTop
        | Instruction::Swap => Around::default(),
    }
}
