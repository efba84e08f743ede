-- What a panel asks for beside the stream: the lists of orders, who answered them, and with which preparation time.

alter table vestnik.answer add column minutes int check (minutes between 1 and 600);   -- until it is ready, as was promised
