copy orders (id, store_id, customer_name) from stdin;
1	7	Иван
2	8	Мария
3	7	\N
\.
update orders set status = case id when 1 then 'ready' when 2 then 'pending' else 'cancelled' end;
