-- What is kept no longer than it is needed: the indexes by which the rows that go with an event or with a chat are found
-- when it goes. Without them each event that is trimmed reads all messages, and each chat all deliveries.
create index message_event on vestnik.message (event_id);
create index delivery_chat on vestnik.delivery (chat_id);
-- Answers to commands belong to no event, so no event takes them away.
create index delivery_words on vestnik.delivery (planned_at) where words is not null;

-- A change of an order ends its ladder.
create index escalation_open on vestnik.escalation (store_id, subject) where ended_at is null;

-- The bot's own number at Telegram: another bot numbers its updates anew.
alter table vestnik.bot add column number bigint;
