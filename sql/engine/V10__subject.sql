-- Which row of the shop's an event is about: the id of the order or booking, its first 64 characters. A column of its
-- own, because an index on what stands in `data` costs each order twice what one on a column does. `vestnik migrate`
-- fills it for the events that are there, and then builds the index beside the writers.
alter table vestnik.event add column subject text;
