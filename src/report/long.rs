//! Tables in long form as files: CSV, and Parquet, which data frames read in one line.
//!
//! Parquet through the crate of that name without Arrow: a megabyte of the program; every data frame reads it.

use crate::causes::Problem;
use crate::results::long::{Column, Kind, Table, Value};
use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use std::sync::Arc;

/// Version of the columns; rises when one changes its meaning or goes.
const VERSION: u32 = 1;

/// Rows that are kept before they are written, which bounds memory.
const ROWS_OF_GROUP: usize = 1 << 16;

/// Rows as CSV under these titles, numbers with all their digits.
///
/// # Errors
/// Only where memory does not do.
pub fn csv<'a>(
    titles: impl IntoIterator<Item = &'a str>,
    rows: &[Vec<Value>],
) -> std::result::Result<Vec<u8>, Problem> {
    let failed = |source| Problem::because("the rows could not be written as CSV", source);
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer.write_record(titles).map_err(failed)?;
    for row in rows {
        writer.write_record(row.iter().map(Value::to_string)).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| {
        Problem::because("the rows could not be written as CSV", error.into_error())
    })
}

/// A Parquet file that grows by rows.
pub struct Parquet {
    writer: SerializedFileWriter<Vec<u8>>,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

impl Parquet {
    /// A file with the columns of a table.
    ///
    /// # Errors
    /// Only where memory does not do.
    pub fn new(table: Table) -> std::result::Result<Self, Problem> {
        let columns = table.columns();
        let about = vec![
            KeyValue::new("quantbench.table".to_owned(), table.to_string()),
            KeyValue::new("quantbench.table.version".to_owned(), VERSION.to_string()),
        ];
        let properties = WriterProperties::builder()
            .set_created_by(format!("quantbench version {}", env!("CARGO_PKG_VERSION")))
            .set_key_value_metadata(Some(about));
        let made = schema(table, &columns).and_then(|schema| {
            SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))
        });
        Ok(Self { writer: made.map_err(failed)?, columns, rows: Vec::new() })
    }

    /// Adds a row of the table.
    ///
    /// # Errors
    /// Only where memory does not do.
    pub fn add(&mut self, row: Vec<Value>) -> std::result::Result<(), Problem> {
        self.rows.push(row);
        if self.rows.len() < ROWS_OF_GROUP { Ok(()) } else { self.flush().map_err(failed) }
    }

    /// The bytes of the whole file.
    ///
    /// # Errors
    /// Only where memory does not do.
    pub fn finish(mut self) -> std::result::Result<Vec<u8>, Problem> {
        self.flush().and_then(|()| self.writer.into_inner()).map_err(failed)
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        for position in 0..self.columns.len() {
            let cells = || rows.iter().map(|row| row.get(position).unwrap_or(&Value::Null));
            let missing = || ParquetError::General("fewer columns than the schema has".to_owned());
            let mut column = group.next_column()?.ok_or_else(missing)?;
            // 1: there is a value.
            let there: Vec<i16> = cells().map(|cell| i16::from(*cell != Value::Null)).collect();
            let there = Some(there.as_slice());
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(writer) => {
                    let texts = cells().filter_map(|cell| match cell {
                        Value::Text(text) => Some(ByteArray::from(text.as_str())),
                        _ => None,
                    });
                    writer.write_batch(&texts.collect::<Vec<_>>(), there, None)?;
                }
                ColumnWriter::Int64ColumnWriter(writer) => {
                    let numbers = cells().filter_map(|cell| match cell {
                        Value::Integer(number) => Some(*number),
                        Value::Time(at) => i64::try_from(at.unix_timestamp_nanos() / 1000).ok(),
                        _ => None,
                    });
                    writer.write_batch(&numbers.collect::<Vec<_>>(), there, None)?;
                }
                ColumnWriter::DoubleColumnWriter(writer) => {
                    let numbers = cells().filter_map(|cell| match cell {
                        Value::Real(number) => Some(*number),
                        _ => None,
                    });
                    writer.write_batch(&numbers.collect::<Vec<_>>(), there, None)?;
                }
                ColumnWriter::BoolColumnWriter(writer) => {
                    let truths = cells().filter_map(|cell| match cell {
                        Value::Bool(is) => Some(*is),
                        _ => None,
                    });
                    writer.write_batch(&truths.collect::<Vec<_>>(), there, None)?;
                }
                _ => return Err(missing()),
            }
            column.close()?;
        }
        group.close().map(|_| ())
    }
}

fn failed(source: ParquetError) -> Problem {
    Problem::because("the rows could not be written as Parquet", source)
}

/// Every column may be null: whether one is depends on what was measured.
fn schema(table: Table, columns: &[Column]) -> Result<Arc<Type>> {
    let field = |column: &Column| {
        let moment = LogicalType::timestamp(true, TimeUnit::MICROS);
        let (physical, logical, converted) = match column.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String), ConvertedType::UTF8),
            Kind::Integer => (Physical::INT64, None, ConvertedType::NONE),
            Kind::Real => (Physical::DOUBLE, None, ConvertedType::NONE),
            Kind::Bool => (Physical::BOOLEAN, None, ConvertedType::NONE),
            Kind::Time => (Physical::INT64, Some(moment), ConvertedType::TIMESTAMP_MICROS),
        };
        Type::primitive_type_builder(column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_converted_type(converted)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let fields = columns.iter().map(field).collect::<Result<_>>()?;
    Type::group_type_builder(&table.to_string()).with_fields(fields).build().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::made_up::{LADDER, MadeUp};
    use crate::results::summary::Summary;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, RowAccessor};

    fn rows(table: Table) -> Vec<Vec<Value>> {
        let run = MadeUp { variants: LADDER[..3].to_vec(), ..MadeUp::default() }.run();
        let mut rows = Vec::new();
        table.rows(&run, &Summary::of(&run), &mut |row| rows.push(row));
        rows
    }

    #[test]
    fn parquet_reads_back_as_it_was_written() {
        for table in [Table::Trials, Table::Figures, Table::Samples] {
            let rows = rows(table);
            let mut file = Parquet::new(table).unwrap();
            // More than a group, so that there are several.
            for row in rows.iter().cycle().take(ROWS_OF_GROUP + rows.len()) {
                file.add(row.clone()).unwrap();
            }
            let bytes = bytes::Bytes::from(file.finish().unwrap());
            let reader = SerializedFileReader::new(bytes).unwrap();
            assert_eq!(reader.num_row_groups(), 2, "{table}");
            let schema = reader.metadata().file_metadata().schema().get_fields();
            let names: Vec<&str> = schema.iter().map(|field| field.name()).collect();
            assert_eq!(names, table.columns().iter().map(|it| it.name).collect::<Vec<_>>());
            for (read, written) in reader.get_row_iter(None).unwrap().zip(&rows) {
                for ((_, field), value) in read.unwrap().get_column_iter().zip(written) {
                    let read = match field {
                        Field::Null => Value::Null,
                        Field::Str(text) => Value::Text(text.clone()),
                        Field::Long(number) => Value::Integer(*number),
                        Field::Double(number) => Value::Real(*number),
                        Field::Bool(is) => Value::Bool(*is),
                        Field::TimestampMicros(at) => Value::Time(
                            time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(*at) * 1000)
                                .unwrap(),
                        ),
                        other => panic!("{other}"),
                    };
                    assert_eq!(read, *value, "{table}");
                }
            }
        }
    }

    #[test]
    fn a_file_without_a_row_is_one() {
        let bytes = Parquet::new(Table::Figures).unwrap().finish().unwrap();
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
        let mut none = reader.get_row_iter(None).unwrap();
        assert!(none.next().is_none_or(|row| row.unwrap().get_string(0).is_err()));
    }

    #[test]
    fn csv_has_all_digits() {
        let row = vec![
            Value::Real(0.1 + 0.2),
            Value::Null,
            Value::Bool(true),
            Value::Text("a,b".to_owned()),
        ];
        let text = String::from_utf8(csv(["a", "b", "c", "d"], &[row]).unwrap()).unwrap();
        assert_eq!(text, "a,b,c,d\n0.30000000000000004,,true,\"a,b\"\n");
    }
}
