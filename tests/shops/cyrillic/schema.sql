create schema "магазин";
create table "магазин"."Заказы" (
    "ид" bigserial primary key,
    "ресторан_id" int not null,
    "номер" text not null,
    "статус" text not null default 'новый' check ("статус" in ('новый', 'готовится', 'готов', 'в пути', 'доставлен', 'отказ', 'отменён')),
    "клиент" text,
    "телефон" text,
    "адрес" text,
    "комментарий" text,
    "сумма" numeric(12,2),
    "способ_оплаты" text,
    "сдача_с" numeric(12,2),
    "состав" jsonb,
    "время_доставки" timestamptz,
    "стол" int,
    "причина" text,
    "создан" timestamptz not null default now(),
    "обновлен" timestamptz
);
-- attach: "магазин"."Заказы"
