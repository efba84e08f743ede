//! Row level security of the shop's tables: whether its policies let a role run a command on every row, and the
//! statements that make them do so. A policy that Vestnik prints holds for one role only, and not for the roles that
//! are its members. The shop's own role is such a member if it attached the source.
//!
//! The functions return SQL. `table` and `role` are SQL expressions for OIDs, and `command` is an SQL expression for
//! the command's letter in `pg_policy.polcmd`, such as `'r'` for SELECT.

/// Returns an SQL condition: row level security of the table has a policy that lets the role run the command on some
/// rows. A policy that applies to the role as a member of another role, but whose condition names only that role, does
/// not count.
pub(super) fn has_policy(table: &str, command: &str, role: &str) -> String {
    let (applies, is_open) = (applies(table, command, role), is_open(command, role));
    format!(
        "exists (select from pg_policy p where {applies} and p.polpermissive \
             and ({is_open} or coalesce({USING}, {CHECK}, '') not like '(CURRENT_USER = ''%''::name)'))"
    )
}

/// Returns an SQL condition: row level security lets the role run the command on every row of the table. Only a policy
/// with the condition `true`, or with one that holds for this role, counts, because another condition may hide rows.
pub(super) fn lets_every_row(table: &str, command: &str, role: &str) -> String {
    let (applies, is_open) = (applies(table, command, role), is_open(command, role));
    format!(
        "(exists (select from pg_policy p where {applies} and p.polpermissive and {is_open}) \
             and not exists (select from pg_policy p where {applies} and not p.polpermissive and not {is_open}))"
    )
}

/// Returns an SQL expression for the statements after which row level security lets the role run the command on every
/// row. It gives an empty text if it does so already, and null if the role is also one of the shop's own: a policy
/// for such a role would open the table to the shop's application. `orders` is an SQL expression for the OID of the
/// table of orders.
pub(super) fn remedy(table: &str, command: &str, role: &str, orders: &str) -> String {
    let (applies, is_open) = (applies(table, command, role), is_open(command, role));
    let name = name(role);
    let of_table = format!(
        "(select format('%I.%I', n.nspname, t.relname) from pg_class t join pg_namespace n on n.oid = t.relnamespace where t.oid = {table})"
    );
    let verb = format!(
        "case {command}::text when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' else 'delete' end"
    );
    let is_role = format!("format('current_user = %L', {name})");
    format!(
        "case when {is_shops_own} then null else concat_ws('; ', \
             case when not exists (select from pg_policy p where {applies} and p.polpermissive and {is_open}) then \
                 format('create policy %I on %s for %s to %I %s (%s)', \
                     'vestnik_' || {verb} || case when {name} = 'vestnik_reader' then '' else '_' || {name} end, \
                     {of_table}, {verb}, {name}, case {command}::text when 'a' then 'with check' else 'using' end, {is_role}) end, \
             (select string_agg(concat(format('alter policy %I on %s', p.polname, {of_table}), \
                     ' using (' || {is_role} || ' or ' || {USING} || ')', \
                     case when {command}::text in ('a', 'w') then ' with check (' || {is_role} || ' or ' || {CHECK} || ')' end), \
                     '; ' order by p.polname) \
                 from pg_policy p where {applies} and not p.polpermissive and not {is_open})) end",
        is_shops_own = is_shops_own(table, role, orders),
    )
}

/// What to do so that `role` can run a command on every row: the statements that [`remedy`] gives. If these are null,
/// `own_role` says how Vestnik gets a role of its own.
pub(super) fn advice(remedy: Option<&str>, role: &str, own_role: &str) -> String {
    match remedy {
        Some("") => "its policies let it have every row now".to_owned(),
        Some(statements) => statements.to_owned(),
        None => format!(
            "{role} is a role of the shop's own application, so a policy for it would open the table to the application: {own_role}; \
             or write a policy that holds for the sessions of Vestnik only"
        ),
    }
}

/// How `vestnik serve` gets a role of its own, for [`advice`].
pub(super) const OWN_ROLE: &str =
    "run `vestnik serve` with a role of its own, which owns no table of the shop and inserts no orders";

const USING: &str = "pg_get_expr(p.polqual, p.polrelid)";
const CHECK: &str = "pg_get_expr(p.polwithcheck, p.polrelid)";

/// Returns an SQL condition: the policy `p` applies to the role and the command.
fn applies(table: &str, command: &str, role: &str) -> String {
    format!(
        "p.polrelid = {table} and p.polcmd::text in ({command}, '*') \
             and (p.polroles = '{{0}}' or exists (select from unnest(p.polroles) o where pg_has_role({role}, o, 'usage')))"
    )
}

/// Returns an SQL condition: the condition of the policy `p` is true for every row, if this role runs the command.
fn is_open(command: &str, role: &str) -> String {
    let is_role = format!("'(CURRENT_USER = ''' || replace(pg_get_userbyid({role}), '''', '''''') || '''::name)'");
    let holds = |condition: &str| {
        format!("({condition} in ('true', {is_role}) or starts_with({condition}, '(' || {is_role} || ' OR '))")
    };
    let (using, check) = (holds(USING), holds(&format!("coalesce({CHECK}, {USING})")));
    format!(
        "coalesce(case when {command}::text in ('r', 'd') then {using} when {command}::text = 'a' then {check} else {using} and {check} end, false)"
    )
}

/// The role's name as an SQL expression. A role that does not exist yet is `vestnik_reader`.
fn name(role: &str) -> String {
    format!("coalesce((select rolname::text from pg_roles where oid = {role}), 'vestnik_reader')")
}

/// Returns an SQL condition: the shop's application may use this role, because it owns a table or may insert orders.
fn is_shops_own(table: &str, role: &str, orders: &str) -> String {
    format!(
        "exists (select from pg_roles v join pg_class t on t.oid in ({table}, {orders}) where v.oid = {role} and v.rolname <> 'vestnik_reader' \
             and (t.relowner = v.oid or t.oid = {orders} and has_any_column_privilege(v.oid, t.oid, 'insert')))"
    )
}
