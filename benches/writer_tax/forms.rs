//! What each choice in the trigger costs: one form of it where all choices are made alike (`plain`), others that differ from
//! it in one thing each, the shipped one, and none, each on a table of its own: `forms.sql`. All while the bell is mute, as
//! it is under load.

use std::sync::Arc;
use std::time::Duration;

use vestnik::db::Client;

use crate::quantile::quantile;
use crate::shop::Shop;

const FORMS: &str = include_str!("forms.sql");
/// Of a loop of INSERTs in one session and one transaction: what the trigger itself does, without the commit.
const LOOPS: usize = 9;
const WARM_UP: i32 = 300;
/// A loop is timed in pieces, and the lower quartile told, for whatever else the machine does only adds to a piece. Where the
/// row of no trigger differs from another run's, the machine was slower, and differences of a few microseconds say nothing.
const PIECES: i32 = 8;
const PIECE: i32 = 1_000;
/// Of many writers, each order a transaction. Short turns, so that a disk that is slow for a while is so for all forms; no
/// table is emptied between them, for the first pages of an empty one are what all writers want.
const TURNS: usize = 21;
const WRITERS: usize = 64;
const TURN: Duration = Duration::from_millis(400);
const STORES: i64 = 16;

/// A form, as `forms.sql` makes it.
struct Form {
    name: String,
    title: String,
    at_writers: bool,
    /// The table that it watches.
    target: String,
    journal: String,
    /// Microseconds an INSERT, one for each piece of each round.
    micros: Vec<f64>,
    /// Orders a second, one for each round.
    rates: Vec<f64>,
}

/// Makes the forms, measures them, prints.
pub async fn compare(shop: &Shop, client: &Client) {
    client.batch_execute(FORMS).await.expect("the forms");
    let mute = vestnik::db::connect_as(&shop.url, "mute").await.expect("a connection");
    mute.execute("select pg_advisory_lock(vestnik.vst_notify_lock_key(), 1)", &[])
        .await
        .expect("mute");
    let mut forms = list(client).await;
    in_a_loop(client, &mut forms).await;
    at_writers(shop, client, &mut forms).await;
}

async fn list(client: &Client) -> Vec<Form> {
    let sql = "select name, title, at_writers, target, journal from forms.form order by place";
    let rows = client.query(sql, &[]).await.expect("the forms");
    let form = |row: tokio_postgres::Row| Form {
        name: row.get(0),
        title: row.get(1),
        at_writers: row.get(2),
        target: row.get(3),
        journal: row.get(4),
        micros: Vec::new(),
        rates: Vec::new(),
    };
    rows.into_iter().map(form).collect()
}

/// All of them, the other way round each other time: what a turn leaves behind falls on both neighbours alike.
fn in_turn(forms: &mut [Form], round: usize) -> Vec<&mut Form> {
    let mut turn: Vec<_> = forms.iter_mut().collect();
    if round % 2 == 1 {
        turn.reverse();
    }
    turn
}

async fn in_a_loop(client: &Client, forms: &mut [Form]) {
    client.batch_execute("set synchronous_commit = off").await.expect("set");
    for round in 0..LOOPS {
        for form in in_turn(forms, round) {
            empty(client, form).await;
            let warm_up = format!("select forms.microseconds_{}({WARM_UP})", form.name);
            client.execute(&warm_up, &[]).await.expect("a loop");
            let pieces = format!(
                "select forms.microseconds_{}({PIECE}) from generate_series(1, {PIECES})",
                form.name
            );
            let pieces = client.query(&pieces, &[]).await.expect("a loop");
            form.micros.extend(pieces.iter().map(|piece| piece.get::<_, f64>(0)));
        }
    }
    println!("\nforms of the trigger: microseconds an INSERT, one session, lower quartile of pieces of {PIECE}");
    println!("{:68} all  over none  over plain  (median)", "");
    let (none, plain) = (lower(&mut forms[0]), lower(&mut forms[1]));
    for form in forms {
        let (all, median) = (lower(form), quantile(&mut form.micros, 0.5));
        let title = &form.title;
        println!(
            "{title:64} {all:7.1} {:10.1} {:+11.1} {median:9.1}",
            all - none,
            all - plain
        );
    }
}

fn lower(form: &mut Form) -> f64 {
    quantile(&mut form.micros, 0.25)
}

async fn empty(client: &Client, form: &Form) {
    let truncate = format!("truncate {}, {} cascade", form.target, form.journal);
    client.batch_execute(&truncate).await.expect("empty");
}

async fn at_writers(shop: &Shop, client: &Client, forms: &mut [Form]) {
    let writers: Vec<Arc<Client>> = crate::writers(shop, WRITERS).await;
    client.batch_execute("checkpoint").await.expect("flushed");
    for round in 0..TURNS {
        for form in in_turn(forms, round).into_iter().filter(|form| form.at_writers) {
            let insert = format!(
                "insert into {} (store_id, customer_name, total, order_type, items) \
                 values ($1, 'Иван', 50000, 'delivery', '[{{\"name\": \"Пицца\", \"count\": 2}}]')",
                form.target
            );
            form.rates.push(crate::rate(&writers, &insert, STORES, TURN).await);
        }
    }
    println!("\nthe same by {WRITERS} writers, an order a transaction, fsync on, median of {TURNS}");
    println!("{:64} orders/s  share of no trigger (quartiles)", "");
    let none = forms[0].rates.clone();
    for form in forms.iter_mut().filter(|form| form.at_writers) {
        let mut shares: Vec<f64> = form
            .rates
            .iter()
            .zip(&none)
            .map(|(rate, none)| rate / none * 100.0)
            .collect();
        let [low, share, high] = [0.25, 0.5, 0.75].map(|at| quantile(&mut shares, at));
        let (title, rate) = (&form.title, quantile(&mut form.rates, 0.5));
        println!("{title:64} {rate:8.0} {share:6.0} % ({low:.0} to {high:.0})");
    }
}
