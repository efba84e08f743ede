//! Tests of the view of bookings: the guests in each hour, today and tomorrow, and guests who did not come.

use crate::panel::browser::Browser;
use crate::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_bookings_is_a_line_of_hours_with_their_guests() {
    let (app, browser) = (App::start().await, Browser::start().await);
    // The times begin at noon in the store's time zone, whatever time it is now. One booking is for tomorrow.
    app.write(
        "insert into bookings (store_id, customer_name, guests, starts_at) select 7, name, guests, \
             date_trunc('day', now() at time zone 'Europe/Moscow') at time zone 'Europe/Moscow' + at from (values \
             ('Дарья', 5, interval '12:15'), ('Олег', 2, interval '12:45'), ('Ольга', 4, interval '14:00'), ('Завтра', 8, interval '36:00')) b(name, guests, at)",
    )
    .await;
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-view-of=bookings]").await;
    let hours = "[...document.querySelectorAll('.hours li')].map((hour) => [hour.querySelector('b').innerText, hour.querySelector('.hour-guests').innerText, \
         ...[...hour.querySelectorAll('.hour-booking')].map((booking) => booking.innerText)].join(' ')).join('|')";
    browser
        .until(&format!("{hours} === '12:00 7 гостей №1 №2|13:00 |14:00 4 гостя №3'"))
        .await;
    browser.picture("43-booking-day").await;
    browser.press(".days [data-day='1']").await;
    browser.until(&format!("{hours} === '12:00 8 гостей №4'")).await;
    browser.press(".hour-booking").await;
    browser
        .until("document.getElementById('order-title')?.innerText === 'Бронь №4'")
        .await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_who_did_not_come_are_said_not_to_have_come() {
    let (app, browser) = (App::start().await, Browser::start().await);
    app.write(
        "insert into bookings (store_id, guests, starts_at, status) values (7, 2, now() - interval '30 minutes', 'preparing'), \
             (7, 4, now() + interval '2 hours', 'preparing')",
    )
    .await;
    browser.start_shift(&app.panel_link()).await;
    browser.press("[data-view-of=bookings]").await;
    browser
        .press("[data-key='bookings/7/bookings/1'] [data-to=no-show]")
        .await;
    app.until_so("select status = 'rejected' and reason = 'Не пришли' from bookings where id = 1")
        .await;
    // A booking in the future has no button for guests who did not come.
    assert_eq!(
        browser
            .js("return document.querySelector(\"[data-key='bookings/7/bookings/2'] [data-to=no-show]\") === null")
            .await,
        true
    );
    browser.close().await;
}
